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
  n_heads: int = 1  # of channels, with steps, B and C of their own; Zamba's: 2
  conv: int = 4  # tokens of the convolution; 1: the token's own
  dt_rank: int = 0  # of the matrix that makes the steps; 0: d_model / 16
  inner_norm: str = "none"  # of dt, B and C: scaled | plain
  inner_norm_eps: float = 0.0  # under their root; 0: model.norm_eps

  def __post_init__(self):
    at_least(1, self, "expand", "state", "n_heads", "conv")
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
  def check(cls, config):
    o, E = cls.options(config), cls.channels(config)
    if E % o.n_heads:
      raise UserError(
        f"model.opts.{cls.word}.n_heads={o.n_heads} does not divide the {E}"
        f" channels (expand={o.expand} times model.d_model={config.d_model});"
        f" choose a divisor of {E}"
      )

  @classmethod
  def leaves(cls, config):
    o, E = cls.options(config), cls.channels(config)
    return {
      "state": Leaf((E, o.state)),
      "conv": Leaf((o.conv - 1, E), config.compute_dtype),
    }

  def normed(
    self, name: str, x_BTHX: Float[Array, "B T H X"]
  ) -> Float[Array, "B T H X"]:
    """A small projection, with the norm that `inner_norm` asks for."""
    o = self.options(self.config)
    if o.inner_norm == "none":
      return x_BTHX
    scale = "shared" if o.inner_norm == "scaled" else "none"
    norm = HeadNorm(
      self.config, o.inner_norm_eps, scale=scale, name=f"{name}_norm"
    )
    return norm(x_BTHX).astype(x_BTHX.dtype)

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    E, H, N = self.channels(c), o.n_heads, o.state
    P, R = E // H, o.dt_rank or -(-c.d_model // 16)

    def heads(a, axis=2):
      return a.reshape(*a.shape[:axis], H, P, *a.shape[axis + 1 :])

    def made(name, of_BTHX, size, axes):
      shape = (H, of_BTHX.shape[-1], size)
      into = (c, "BTHX,HXY->BTHY", shape, ("latent", *axes))
      return Projection(*into, bias=False, name=name)(of_BTHX)

    u_BTE, gate_BTE = (
      self.into(x_BTD, name, (E,), CHANNELS, to_branch=True)
      for name in ("x", "gate")
    )
    conv = ShortConv(c, o.conv, (E,), CHANNELS, bias=True, name="conv")
    u_BTE, kept_BWE = conv(u_BTE, starts_BT, state["conv"])
    u_BTE = jax.nn.silu(u_BTE)
    low_BTHR, b_BTHN, c_BTHN = (
      self.normed(name, made(name, heads(u_BTE), size, ("ff", "latent")))
      for name, size in (("dt_down", R), ("b", N), ("c", N))
    )
    dt_BTE = made("dt_up", low_BTHR, P, ("latent", "ff")).reshape(u_BTE.shape)
    steps = inverse_softplus_of_steps(1e-3, 1e-1)
    dt_bias_E = declare(self, "dt_bias", steps, (E,), ("ff",), c.param_dtype)
    axes = ("ff", "latent")
    log_rate_EN = declare(
      self, "log_rate", log_of_counts, (E, N), axes, c.param_dtype
    )
    skip_E = declare(self, "skip", ones, (E,), ("ff",), c.param_dtype)
    scan = dispatch("selective_scan", c.implementation)
    # By heads: channels, steps, rates, B, C, where documents begin, the state.
    of_heads = jax.vmap(scan, (2, 2, 0, 2, 2, None, 1), (2, 1))
    y_BTHP, after_BHPN = of_heads(
      heads(u_BTE),
      heads(jax.nn.softplus(dt_BTE.astype(jnp.float32) + dt_bias_E)),
      heads(-jnp.exp(log_rate_EN.astype(jnp.float32)), 0),
      b_BTHN,
      c_BTHN,
      starts_BT,
      heads(state["state"], 1),
    )
    y_BTE = y_BTHP.reshape(u_BTE.shape)
    y_BTE += skip_E * u_BTE.astype(jnp.float32)
    y_BTE *= jax.nn.silu(gate_BTE.astype(jnp.float32))
    after_BEN = after_BHPN.reshape(state["state"].shape)
    return self.out(y_BTE), {"state": after_BEN, "conv": kept_BWE}
