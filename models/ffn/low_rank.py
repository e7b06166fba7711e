"""Low-rank feed-forward network (Wei et al. 2024, arXiv:2406.16450)."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float

from ...errors import UserError
from ...parallel.rules import constrain
from ..context import Context
from ..linear import Projection
from . import ACTIVATIONS, FFN, check_activation


@dataclasses.dataclass(frozen=True)
class Options:
  rank: int = 32  # of each of the three matrices
  activation: str = "silu"

  def __post_init__(self):
    check_activation("low_rank", self.activation)
    if self.rank < 1:
      raise UserError(f"rank={self.rank} must be at least 1")


class LowRank(FFN):
  """A gated linear unit whose matrices are products U V of a given rank.

  Worth its name below the rank D F / (D + F), where both cost the same.
  """

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    c = self.config
    o = c.options("low_rank", Options())
    D, F, R = c.d_model, c.ff_dim, o.rank

    def product(name, x, sizes, axes, **more):
      """U V x, with R numbers between the two."""
      into = (c, "BTX,XR->BTR", (sizes[0], R), (axes[0], "latent"))
      out = (c, "BTR,RY->BTY", (R, sizes[1]), ("latent", axes[1]))
      x = Projection(*into, name=f"{name}_v")(x)
      return Projection(*out, name=f"{name}_u", **more)(x)

    def into(name):
      return product(name, x_BTD, (D, F), ("embed", "ff"), to_branch=True)

    h_BTF = ACTIVATIONS[o.activation](into("gate")) * into("up")
    h_BTF = constrain(h_BTF, "batch", "seq", "ff")
    return product("down", h_BTF, (F, D), ("ff", "embed"), to_residual=True)
