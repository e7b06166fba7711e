"""Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464)."""

import jax
import jax.numpy as jnp

from .decay import Steps
from .delta_net import DeltaNet, Options
from .recurrence import HEADS


class GatedDeltaNet(DeltaNet):
  """DeltaNet whose state decays by exp(-A softplus(a + dt)), and a gate."""

  word = "gated_delta_net"
  option_type = Options

  def log_decay(self, x_BTD):
    c, N = self.config, self.heads(self.config)[1]
    return Steps(c, N, 0.0, 16.0, name="decay")(x_BTD)[1]

  def gated(self, x_BTD, o_BTNV):
    shape = o_BTNV.shape[2:]
    gate_BTNV = self.into(x_BTD, "gate", shape, HEADS, to_branch=True)
    return o_BTNV * jax.nn.silu(gate_BTNV.astype(jnp.float32))
