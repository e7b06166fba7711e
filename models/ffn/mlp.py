"""Two-matrix feed-forward network (Vaswani et al. 2017, arXiv:1706.03762)."""

import dataclasses

import flax.linen as nn

from . import ACTIVATIONS, FFN, check_activation


@dataclasses.dataclass(frozen=True)
class Options:
  activation: str = "gelu"

  def __post_init__(self):
    check_activation("mlp", self.activation)


class MLP(FFN):
  """W_down act(W_up x)."""

  @nn.compact
  def __call__(self, x_BTD, ctx, sizes_E=None):
    c = self.config
    D, F = c.d_model, c.ff_dim
    sizes, axes = (D, F), ("embed", "ff")
    h_BTF = self.project("up", x_BTD, sizes, axes, sizes_E, to_branch=True)
    h_BTF = ACTIVATIONS[c.options("mlp").activation](h_BTF)
    sizes, axes = (F, D), ("ff", "embed")
    return self.project("down", h_BTF, sizes, axes, sizes_E, to_residual=True)
