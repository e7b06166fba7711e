"""RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467) and LayerNorm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .config import ModelConfig
from .param import declare, ones, zeros


class RMSNorm(nn.Module):
  """x / sqrt(mean(x^2) + eps) * scale, over the last axis."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    c = self.config
    scale = declare(self, "scale", ones, x.shape[-1:], ("norm",), c.param_dtype)
    # fp32: bf16 squares lose the small entries of a row.
    x32 = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    return (x32 * jax.lax.rsqrt(variance + c.norm_eps) * scale).astype(x.dtype)


class LayerNorm(nn.Module):
  """LayerNorm (Ba et al. 2016, arXiv:1607.06450).

  (x - mean) / sqrt(var + eps) * scale + bias, over the last axis.
  """

  config: ModelConfig

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    c = self.config
    shape, axes = x.shape[-1:], ("norm",)
    scale = declare(self, "scale", ones, shape, axes, c.param_dtype)
    bias = declare(self, "bias", zeros, shape, axes, c.param_dtype)
    x32 = x.astype(jnp.float32)  # fp32: as in RMSNorm.
    x32 -= jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    y = x32 * jax.lax.rsqrt(variance + c.norm_eps) * scale + bias
    return y.astype(x.dtype)


NORMS = {"rms_norm": RMSNorm, "layer_norm": LayerNorm}
