"""Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464)."""

import jax
import jax.numpy as jnp

from .decay import Steps
from .delta_net import DeltaNet, Options


class GatedDeltaNet(DeltaNet):
  """DeltaNet whose state decays by exp(-A softplus(a + dt)), and a gate."""

  word = "gated_delta_net"
  option_type = Options

  def log_decay(self, x_BTD):
    steps = Steps(self.config, self.config.n_heads, 0.0, 16.0, name="decay")
    return steps(x_BTD)[1]

  def gated(self, x_BTD, o_BTNV):
    V = o_BTNV.shape[-1]
    gate_BTNV = self.by_head(x_BTD, "gate", V, to_branch=True)
    return o_BTNV * jax.nn.silu(gate_BTNV.astype(jnp.float32))
