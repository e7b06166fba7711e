"""RG-LRU, the recurrence of Griffin (De et al. 2024, arXiv:2402.19427)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, zeros
from .recurrence import HEADS, Leaf, Recurrence, ShortConv

SHARPNESS = 8.0  # the paper's c: a = exp(-c softplus(rate) r)


@dataclasses.dataclass(frozen=True)
class Options:
  width: int = 0  # channels; 0: model.d_model
  conv: int = 4  # tokens of the convolution; 1: the token's own
  bias: bool = False  # where model.use_bias gives none, as Griffin's

  def __post_init__(self):
    at_least(1, self, "conv")
    if self.width < 0:
      raise UserError(
        f"width={self.width} must be positive, or 0 for model.d_model"
      )


@functools.cache
def rate_of_decays(least: float, most: float):
  """What makes the decay at r = 1 uniform, squared, between two bounds."""

  def init(key, shape, dtype):
    square = jax.random.uniform(key, shape, jnp.float32, least**2, most**2)
    rate = -jnp.log(square) / (2 * SHARPNESS)  # = softplus(what is drawn)
    return jnp.log(jnp.expm1(rate)).astype(dtype)

  return init


@jax.custom_jvp
def _root(x: Array) -> Array:
  return jnp.sqrt(x)


@_root.defjvp
def _bounded(primals, tangents):
  """At 0 its slope has no end; beyond 1,000 it is cut, as by the authors."""
  (x,), (dx,) = primals, tangents
  slope = 0.5 / jnp.sqrt(jnp.maximum(x, 1 / (4 * 1000.0**2)))
  return jnp.sqrt(x), slope * dx


class RGLRU(Recurrence):
  """A gated block of `width` channels, each with a decay that it is told."""

  word = "rg_lru"
  option_type = Options

  @property
  def bias(self):
    return self.config.use_bias or self.options(self.config).bias

  @classmethod
  def width(cls, config: ModelConfig) -> int:
    return cls.options(config).width or config.d_model

  @classmethod
  def check(cls, config):
    if (W := cls.width(config)) % config.n_heads:
      raise UserError(
        f"model.mixer='rg_lru' has a gate of blocks of its channels, and"
        f" model.n_heads={config.n_heads} does not divide {W} of them; change"
        " model.n_heads or model.opts.rg_lru.width"
      )

  @classmethod
  def leaves(cls, config):
    N, W = config.n_heads, cls.width(config)
    taps = cls.options(config).conv - 1
    return {
      "state": Leaf((N, W // N)),
      "conv": Leaf((taps, N, W // N), config.compute_dtype),
    }

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    N, H = c.n_heads, self.width(c) // c.n_heads

    def gate(name, of_BTNH):
      blocks = (*HEADS, "latent")
      spec = "BTNH,NHG->BTNG"
      project = Projection(c, spec, (N, H, H), blocks, bias=False, name=name)
      bias_NH = declare(
        self, f"{name}_bias", zeros, (N, H), HEADS, c.param_dtype
      )
      return jax.nn.sigmoid(project(of_BTNH).astype(jnp.float32) + bias_NH)

    out_gate_BTNH = jax.nn.gelu(
      self.into(x_BTD, "gate", (N, H), HEADS, to_branch=True), approximate=True
    )
    conv = ShortConv(c, o.conv, (N, H), HEADS, bias=True, name="conv")
    u_BTNH = self.into(x_BTD, "x", (N, H), HEADS, to_branch=True)
    u_BTNH, kept = conv(u_BTNH, starts_BT, state["conv"])
    i_BTNH, r_BTNH = gate("input_gate", u_BTNH), gate("decay_gate", u_BTNH)
    decays = rate_of_decays(0.9, 0.999)
    rate_NH = declare(self, "log_rate", decays, (N, H), HEADS, c.param_dtype)
    log_a_BTNH = -SHARPNESS * r_BTNH * jax.nn.softplus(rate_NH)
    # What comes in is as large as what is forgotten; at first it is all.
    share_BTNH = _root(-jnp.expm1(2 * log_a_BTNH))
    share_BTNH = jnp.where(starts_BT[..., None, None], 1, share_BTNH)
    h_BTNH, after = dispatch("diagonal_scan", c.implementation)(
      jnp.exp(log_a_BTNH),
      share_BTNH * i_BTNH * u_BTNH.astype(jnp.float32),
      starts_BT,
      state["state"],
    )
    y_BTD = self.out(h_BTNH.astype(x_BTD.dtype) * out_gate_BTNH)
    return y_BTD, {"state": after, "conv": kept}
