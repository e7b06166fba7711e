"""Low-rank feed-forward network (Wei et al. 2024, arXiv:2406.16450)."""

import dataclasses

import flax.linen as nn

from ...errors import UserError
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
  def __call__(self, x_BTD, ctx, sizes_E=None):
    c = self.config
    o = c.options("low_rank", Options())
    D, F, R = c.d_model, c.ff_dim, o.rank

    def product(name, x, sizes, axes, **more):
      """U V x, with R numbers between the two."""
      into = (sizes[0], R), (axes[0], "latent"), sizes_E
      out = (R, sizes[1]), ("latent", axes[1]), sizes_E
      x = self.project(f"{name}_v", x, *into)
      return self.project(f"{name}_u", x, *out, **more)

    def into(name):
      return product(name, x_BTD, (D, F), ("embed", "ff"), to_branch=True)

    h_BTF = ACTIVATIONS[o.activation](into("gate")) * into("up")
    return product("down", h_BTF, (F, D), ("ff", "embed"), to_residual=True)
