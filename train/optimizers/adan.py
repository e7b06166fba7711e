"""Adan (Xie et al. 2022, arXiv:2208.06677)."""

import dataclasses

import optax

from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  """The decays are those of a mean, 1 - beta in the paper's own notation.

  Weight decay is decoupled as for every optimizer here, where the paper
  divides by 1 + lr * decay: the same to first order. Takes up to ten times
  AdamW's opt.lr.
  """

  b1: float = 0.98  # of the gradient
  b2: float = 0.92  # of the gradient's change
  b3: float = 0.99  # of the square
  eps: float = 1e-8

  def __post_init__(self):
    require("adan", self, "in [0, 1)", "b1", "b2", "b3")
    require("adan", self, "positive", "eps")


def adan(options: Options, specs) -> optax.GradientTransformation:
  del specs
  return optax.scale_by_adan(options.b1, options.b2, options.b3, options.eps)
