"""Dynamic tanh (Zhu et al. 2025, arXiv:2503.10622)."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ..param import declare, ones, zeros
from . import Norm


@dataclasses.dataclass(frozen=True)
class Options:
  alpha: float = 0.5  # slope at the start; the paper's, but for large models

  def __post_init__(self):
    if self.alpha <= 0:
      raise UserError(f"alpha={self.alpha} must be positive")


class DynamicTanh(Norm):
  """tanh(alpha x) * scale + bias, with one alpha: no statistics are taken."""

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    c = self.config
    start = c.options("dynamic_tanh", Options()).alpha

    def alphas(key, shape, dtype):
      return ones(key, shape, dtype) * jnp.asarray(start, dtype)

    shape, axes = x.shape[-1:], ("norm",)
    alpha = declare(self, "alpha", alphas, (1,), axes, c.param_dtype)
    scale = declare(self, "scale", ones, shape, axes, c.param_dtype)
    bias = declare(self, "bias", zeros, shape, axes, c.param_dtype)
    y = jnp.tanh(x.astype(jnp.float32) * alpha) * scale + bias
    return y.astype(x.dtype)
