"""NORMS: what keeps activations in range.

A new norm is one file here and one line below.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from ...registry import Registry
from ..config import ModelConfig


class Norm(nn.Module):
  """Acts on the last axis, of any size."""

  config: ModelConfig

  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    raise NotImplementedError(f"{type(self).__name__} must define __call__")


NORMS = Registry(
  "norm",
  "model.norm",
  __name__,
  {
    "rms_norm": "rms_norm:RMSNorm",
    "layer_norm": "layer_norm:LayerNorm",
    "dynamic_tanh": "dynamic_tanh:DynamicTanh",
    "none": "none:NoNorm",
  },
)
