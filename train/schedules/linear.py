"""Linear decay (Defazio et al. 2023, arXiv:2310.07831)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
  final_factor: float = 0.0  # of the peak, at the last step


def linear(step, steps, options: Options):
  return 1 - (1 - options.final_factor) * step / steps
