"""Gated linear attention (Yang et al. 2023, arXiv:2312.06635)."""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ..linear import Projection
from .recurrence import HeadNorm, HeadOptions, HeadRecurrence


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  key_dim: int = 0  # K of each head; 0: half of model.head_dim
  value_dim: int = 0  # V of each head; 0: model.head_dim
  gate_rank: int = 16  # of the matrix that makes the decays
  temperature: float = 16.0  # decays are sigmoids to the power 1 / temperature

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "gate_rank")
    if self.temperature <= 0:
      raise UserError(f"temperature={self.temperature} must be positive")


class GLA(HeadRecurrence):
  """Linear attention whose state decays, each channel of k by itself."""

  word = "gla"
  option_type = Options

  @classmethod
  def sizes(cls, config):
    o, H = cls.options(config), config.head_dim
    return o.key_dim or max(1, H // 2), o.value_dim or H

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    K, V = self.sizes(c)
    D, N, R = c.d_model, c.n_heads, o.gate_rank
    q_BTNK, k_BTNK = (self.by_head(x_BTD, name, K) for name in "qk")
    v_BTNV = self.by_head(x_BTD, "v", V, to_branch=True)
    down = (c, "BTD,DR->BTR", (D, R), ("embed", "latent"))
    low_BTR = Projection(*down, bias=False, name="decay_down")(x_BTD)
    up = (c, "BTR,RNH->BTNH", (R, N, K), ("latent", "heads", "head_dim"))
    logits_BTNK = Projection(*up, bias=True, name="decay_up")(low_BTR)
    g_BTNK = jax.nn.log_sigmoid(logits_BTNK.astype(jnp.float32))
    scan = dispatch("linear_scan", c.implementation)
    o_BTNV, after = scan(
      q_BTNK * K**-0.5,
      k_BTNK,
      v_BTNV,
      g_BTNK / o.temperature,
      starts_BT,
      state["state"],
    )
    o_BTNV = HeadNorm(c, name="norm")(o_BTNV)
    gate_BTNV = jax.nn.silu(self.by_head(x_BTD, "gate", V, to_branch=True))
    return self.out(o_BTNV * gate_BTNV), {"state": after}
