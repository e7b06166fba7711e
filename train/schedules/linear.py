"""Linear decay (Defazio et al. 2023, arXiv:2310.07831)."""

import dataclasses

from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  final_factor: float = 0.0  # of the peak, at the last step

  def __post_init__(self):
    require("linear", self, "at least 0", "final_factor")


def linear(step, steps, warmup, options: Options):
  del warmup
  return 1 - (1 - options.final_factor) * step / steps
