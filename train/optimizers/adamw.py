"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

import dataclasses

import optax

from ..ranges import require
from .width import entrywise

width_factor = entrywise


@dataclasses.dataclass(frozen=True)
class Options:
  b1: float = 0.9  # of the gradient
  b2: float = 0.95  # of the squared gradient
  eps: float = 1e-8

  def __post_init__(self):
    require("adamw", self, "in [0, 1)", "b1", "b2")
    require("adamw", self, "positive", "eps")


def adamw(options: Options, specs) -> optax.GradientTransformation:
  del specs
  return optax.scale_by_adam(options.b1, options.b2, options.eps)
