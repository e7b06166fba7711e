"""Mamba: a selective state space (Gu and Dao 2023, arXiv:2312.00752)."""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, ones
from .decay import inverse_softplus_of_steps, log_of_counts
from .recurrence import Leaf, Recurrence, ShortConv


@dataclasses.dataclass(frozen=True)
class Options:
  expand: int = 2  # channels, times model.d_model
  state: int = 16  # numbers that each channel keeps
  conv: int = 4  # tokens of the convolution; 1: the token's own
  dt_rank: int = 0  # of the matrix that makes the steps; 0: d_model / 16

  def __post_init__(self):
    for key in ("expand", "state", "conv"):
      if getattr(self, key) < 1:
        raise UserError(f"{key}={getattr(self, key)} must be at least 1")
    if self.dt_rank < 0:
      raise UserError(
        f"dt_rank={self.dt_rank} must be positive, or 0 for d_model / 16"
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

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    D, E, N = c.d_model, self.channels(c), o.state
    R = o.dt_rank or -(-D // 16)

    def into(name, of_BTX, size, axes, **more):
      shape = (of_BTX.shape[-1], size)
      project = Projection(c, "BTD,DE->BTE", shape, axes, name=name, **more)
      return project(of_BTX)

    u_BTE = into("x", x_BTD, E, ("embed", "ff"), to_branch=True)
    gate_BTE = into("gate", x_BTD, E, ("embed", "ff"), to_branch=True)
    u_BTE = constrain(u_BTE, "batch", "seq", "ff")
    conv = ShortConv(c, o.conv, (E,), ("ff",), bias=True, name="conv")
    u_BTE, kept_BWE = conv(u_BTE, starts_BT, state["conv"])
    u_BTE = jax.nn.silu(u_BTE)
    low_BTR = into("dt_down", u_BTE, R, ("ff", "latent"), bias=False)
    b_BTN = into("b", u_BTE, N, ("ff", "latent"), bias=False)
    c_BTN = into("c", u_BTE, N, ("ff", "latent"), bias=False)
    dt_BTE = into("dt_up", low_BTR, E, ("latent", "ff"), bias=False)
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
    axes = ("ff", "embed")
    y_BTD = into("o", y_BTE.astype(x_BTD.dtype), D, axes, to_residual=True)
    return y_BTD, {"state": after, "conv": kept_BWE}
