"""Lion (Chen et al. 2023, arXiv:2302.06675)."""

import dataclasses

import optax

from ..ranges import require
from .width import entrywise

width_factor = entrywise


@dataclasses.dataclass(frozen=True)
class Options:
  """Every entry moves by opt.lr: take a third to a tenth of AdamW's.

  And opt.weight_decay as many times larger (section 5 of the paper).
  """

  b1: float = 0.9  # of the momentum in the sign
  b2: float = 0.99  # of the momentum that is kept

  def __post_init__(self):
    require("lion", self, "in [0, 1)", "b1", "b2")


def lion(options: Options, specs) -> optax.GradientTransformation:
  """sign(b1 m + (1 - b1) g)."""
  del specs
  return optax.scale_by_lion(options.b1, options.b2)
