"""RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..param import declare, ones
from . import Norm


class RMSNorm(Norm):
  """x / sqrt(mean(x^2) + eps) * scale, over the last axis."""

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    c = self.config
    scale = declare(self, "scale", ones, x.shape[-1:], ("norm",), c.param_dtype)
    # fp32: bf16 squares lose the small entries of a row.
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    return (x32 * jax.lax.rsqrt(variance + c.norm_eps) * scale).astype(x.dtype)
