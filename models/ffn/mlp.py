"""Two-matrix feed-forward network (Vaswani et al. 2017, arXiv:1706.03762)."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float

from ...parallel.rules import constrain
from ..context import Context
from ..linear import Projection
from . import ACTIVATIONS, FFN, check_activation


@dataclasses.dataclass(frozen=True)
class Options:
  activation: str = "gelu"

  def __post_init__(self):
    check_activation("mlp", self.activation)


class MLP(FFN):
  """W_down act(W_up x)."""

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    c = self.config
    D, F = c.d_model, c.ff_dim
    axes = ("embed", "ff")
    up = Projection(c, "BTD,DF->BTF", (D, F), axes, to_branch=True, name="up")
    down = Projection(
      c, "BTF,FD->BTD", (F, D), ("ff", "embed"), to_residual=True, name="down"
    )
    h_BTF = ACTIVATIONS[c.options("mlp").activation](up(x_BTD))
    return down(constrain(h_BTF, "batch", "seq", "ff"))
