"""Mamba: a selective state space (Gu and Dao 2023, arXiv:2312.00752)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, ones
from .decay import inverse_softplus_of_steps, log_of_counts
from .recurrence import CHANNELS, HeadNorm, Leaf, Recurrence, ShortConv

# RMSNorms of dt, B and C, once they are projected: with scales, as Jamba's
# (arXiv:2403.19887, section 6.4), or without, as Falcon Mamba's
# (arXiv:2410.05355).
INNER_NORMS = ("none", "scaled", "plain")


@dataclasses.dataclass(frozen=True)
class Options:
  expand: int = 2  # channels, times model.d_model
  state: int = 16  # numbers that each channel keeps
  conv: int = 4  # tokens of the convolution; 1: the token's own
  dt_rank: int = 0  # of the matrix that makes the steps; 0: d_model / 16
  inner_norm: str = "none"  # of dt, B and C: scaled | plain
  inner_norm_eps: float = 0.0  # under their root; 0: model.norm_eps

  def __post_init__(self):
    at_least(1, self, "expand", "state", "conv")
    if self.dt_rank < 0:
      raise UserError(
        f"dt_rank={self.dt_rank} must be positive, or 0 for d_model / 16"
      )
    if self.inner_norm not in INNER_NORMS:
      raise UserError(
        f"inner_norm={self.inner_norm!r} is not one of {', '.join(INNER_NORMS)}"
      )
    if self.inner_norm_eps < 0:
      raise UserError(
        f"inner_norm_eps={self.inner_norm_eps} must be positive, or 0 for"
        " model.norm_eps"
      )


class Mamba(Recurrence):
  """A gated block of d_model * expand channels around a selective scan."""

  word = "mamba"
  option_type = Options

  @classmethod
  def channels(cls, config: ModelConfig) -> int:
    return cls.options(config).expand * config.d_model

  @classmethod
  def leaves(cls, config):
    o, E = cls.options(config), cls.channels(config)
    return {
      "state": Leaf((E, o.state)),
      "conv": Leaf((o.conv - 1, E), config.compute_dtype),
    }

  def normed(
    self, name: str, x_BTX: Float[Array, "B T X"]
  ) -> Float[Array, "B T X"]:
    """A small projection, with the norm that `inner_norm` asks for."""
    o = self.options(self.config)
    if o.inner_norm == "none":
      return x_BTX
    scale = "shared" if o.inner_norm == "scaled" else "none"
    norm = HeadNorm(
      self.config, o.inner_norm_eps, scale=scale, name=f"{name}_norm"
    )
    return norm(x_BTX[:, :, None])[:, :, 0].astype(x_BTX.dtype)

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    E, N = self.channels(c), o.state
    R = o.dt_rank or -(-c.d_model // 16)

    def made(name, of_BTX, size, axes):
      into = (c, "BTD,DE->BTE", (of_BTX.shape[-1], size), axes)
      return Projection(*into, bias=False, name=name)(of_BTX)

    u_BTE, gate_BTE = (
      self.into(x_BTD, name, (E,), CHANNELS, to_branch=True)
      for name in ("x", "gate")
    )
    conv = ShortConv(c, o.conv, (E,), CHANNELS, bias=True, name="conv")
    u_BTE, kept_BWE = conv(u_BTE, starts_BT, state["conv"])
    u_BTE = jax.nn.silu(u_BTE)
    low_BTR, b_BTN, c_BTN = (
      self.normed(name, made(name, u_BTE, size, ("ff", "latent")))
      for name, size in (("dt_down", R), ("b", N), ("c", N))
    )
    dt_BTE = made("dt_up", low_BTR, E, ("latent", "ff"))
    steps = inverse_softplus_of_steps(1e-3, 1e-1)
    dt_bias_E = declare(self, "dt_bias", steps, (E,), ("ff",), c.param_dtype)
    axes = ("ff", "latent")
    log_rate_EN = declare(
      self, "log_rate", log_of_counts, (E, N), axes, c.param_dtype
    )
    skip_E = declare(self, "skip", ones, (E,), ("ff",), c.param_dtype)
    y_BTE, after = dispatch("selective_scan", c.implementation)(
      u_BTE,
      jax.nn.softplus(dt_BTE.astype(jnp.float32) + dt_bias_E),
      -jnp.exp(log_rate_EN.astype(jnp.float32)),
      b_BTN,
      c_BTN,
      starts_BT,
      state["state"],
    )
    y_BTE += skip_E * u_BTE.astype(jnp.float32)
    y_BTE *= jax.nn.silu(gate_BTE.astype(jnp.float32))
    return self.out(y_BTE), {"state": after, "conv": kept_BWE}
