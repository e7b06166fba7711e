"""Shares of sources with a temperature (Conneau et al. 2020, arXiv:1911.02116).

share_i ~ size_i^(1/T): T = 1 takes the sizes as they are, a higher T evens
them out, so that small sources and languages are seen more often.
"""

from collections.abc import Sequence

from .config import DataConfig


def shares(config: DataConfig, sizes: Sequence[int]) -> tuple[float, ...]:
  """Returns the share of each source, in [0, 1], with the sum 1.

  Args:
    sizes: of the sources, in bytes or tokens. With `balance="epochs"` a
      source's weight counts how often it is seen for once of the others;
      with "shares" the weights are the shares.
  """
  weights = [
    part.weight * (size if config.balance == "epochs" else 1)
    for part, size in zip(config.parts, sizes, strict=True)
  ]
  # Of the largest, so that no power overflows.
  evened = [(w / max(weights)) ** (1 / config.temperature) for w in weights]
  return tuple(weight / sum(evened) for weight in evened)
