"""Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464)."""

import jax
import jax.numpy as jnp

from ..linear import Projection
from ..param import declare
from .decay import inverse_softplus_of_steps, log_of_rates
from .delta_net import DeltaNet, Options


class GatedDeltaNet(DeltaNet):
  """DeltaNet whose state decays by exp(-A softplus(a + dt)), and a gate."""

  word = "gated_delta_net"
  option_type = Options

  def log_decay(self, x_BTD):
    c, N = self.config, self.config.n_heads
    into = (c, "BTD,DN->BTN", (c.d_model, N), ("embed", "heads"))
    a_BTN = Projection(*into, bias=False, name="decay")(x_BTD)
    dt_bias_N = declare(
      self,
      "dt_bias",
      inverse_softplus_of_steps(1e-3, 1e-1),
      (N,),
      ("heads",),
      c.param_dtype,
    )
    log_rate_N = declare(
      self, "log_rate", log_of_rates(0.0, 16.0), (N,), ("heads",), c.param_dtype
    )
    steps_BTN = jax.nn.softplus(a_BTN.astype(jnp.float32) + dt_bias_N)
    return -(jnp.exp(log_rate_N) * steps_BTN)[..., None]

  def gated(self, x_BTD, o_BTNV):
    V = o_BTNV.shape[-1]
    gate_BTNV = self.by_head(x_BTD, "gate", V, to_branch=True)
    return o_BTNV * jax.nn.silu(gate_BTNV.astype(jnp.float32))
