"""RetNet: retention on several scales (Sun et al. 2023, arXiv:2307.08621).

Heads forget at rates that are fixed, and queries and keys are turned by their
positions. The norm of each head is an RMSNorm without a scale, as in the
authors' code; the paper's text has GroupNorm.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ...kernels.dispatch import dispatch
from .recurrence import HeadNorm, HeadOptions, HeadRecurrence


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  key_dim: int = 0  # K of each head; 0: model.head_dim
  value_dim: int = 0  # V of each head; 0: twice key_dim


def log_decays(n_heads: int) -> np.ndarray:
  """log(1 - 2^(-5 - n)) of head n."""
  return np.log1p(-(2.0 ** (-5.0 - np.arange(n_heads)))).astype(np.float32)


def turned(
  x_BTNK: Float[Array, "B T N K"], positions_BT: Int[Array, "B T"]
) -> Float[Array, "B T N K"]:
  """Neighbouring numbers as a complex one, times exp(i position angle)."""
  angles = 10_000.0 ** -np.linspace(0, 1, x_BTNK.shape[-1] // 2)
  at = positions_BT[..., None, None] * jnp.asarray(angles, jnp.float32)
  sin, cos = jnp.sin(at), jnp.cos(at)
  even, odd = x_BTNK[..., ::2], x_BTNK[..., 1::2]
  y = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
  return y.reshape(x_BTNK.shape)


class Retention(HeadRecurrence):
  """sum_s decay^(t - s) (q_t . k_s) v_s, normed by head, times a gate."""

  word = "retention"
  option_type = Options

  @classmethod
  def sizes(cls, config):
    o = cls.options(config)
    K = o.key_dim or config.head_dim
    return K, o.value_dim or 2 * K

  @classmethod
  def check(cls, config):
    K, _ = cls.sizes(config)
    if K % 2:
      raise UserError(
        f"model.mixer='retention' turns pairs of channels, and a key has {K};"
        " make model.head_dim or model.opts.retention.key_dim even"
      )

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, (K, V) = self.config, self.sizes(self.config)
    q_BTNK, k_BTNK = (
      turned(self.by_head(x_BTD, name, K).astype(jnp.float32), ctx.positions_BT)
      for name in "qk"
    )
    v_BTNV = self.by_head(x_BTD, "v", V, to_branch=True)
    g_N = jnp.asarray(log_decays(c.n_heads))
    g_BTN1 = jnp.broadcast_to(g_N[:, None], (*v_BTNV.shape[:3], 1))
    scan = dispatch("linear_scan", c.implementation)
    o_BTNV, after = scan(
      q_BTNK, k_BTNK * K**-0.5, v_BTNV, g_BTN1, starts_BT, state["state"]
    )
    o_BTNV = HeadNorm(c, scale="none", name="norm")(o_BTNV)
    gate_BTNV = jax.nn.silu(self.by_head(x_BTD, "gate", V, to_branch=True))
    return self.out(o_BTNV * gate_BTNV), {"state": after}
