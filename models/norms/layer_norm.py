"""LayerNorm (Ba et al. 2016, arXiv:1607.06450)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..param import declare, ones, zeros
from . import Norm


@dataclasses.dataclass(frozen=True)
class Options:
  bias: bool = True  # MPT has none


class LayerNorm(Norm):
  """(x - mean) / sqrt(var + eps) * scale + bias, over the last axis."""

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    c = self.config
    shape, axes = x.shape[-1:], ("norm",)
    scale = declare(self, "scale", ones, shape, axes, c.param_dtype)
    x32 = x.astype(jnp.float32)  # fp32: as in RMSNorm.
    x32 -= jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    y = x32 * jax.lax.rsqrt(variance + c.norm_eps) * scale
    if c.options("layer_norm", Options()).bias:
      y += declare(self, "bias", zeros, shape, axes, c.param_dtype)
    return y.astype(x.dtype)
