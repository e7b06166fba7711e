"""Diverse beam search (Vijayakumar et al. 2016, arXiv:1610.02424)."""

import dataclasses

import numpy as np

from ...errors import UserError
from ..session import Block
from ..text import Completion
from . import beam
from .beam import Beam, search


@dataclasses.dataclass(frozen=True)
class Options(beam.Options):
  """Those of beam search, and the groups.

  Attributes:
    groups: searches of beams / groups beams each, one after the other.
    diversity_penalty: taken off the score of a token for each beam of the
      groups before that takes it at the same step, at least 0.
  """

  groups: int = 2
  diversity_penalty: float | int = 0.5

  def __post_init__(self):
    super().__post_init__()
    if self.groups < 1 or self.beams % self.groups:
      raise UserError(
        f"beams={self.beams} is not a multiple of groups={self.groups}; use a"
        f" divisor of {self.beams}"
      )
    if not 0 <= self.diversity_penalty < np.inf:
      raise UserError(
        f"diversity_penalty={self.diversity_penalty} must be finite and"
        " positive, or 0 for none"
      )


class DiverseBeam(Beam):
  """Algorithm 1 with the Hamming dissimilarity of section 5.1.

  As in fairseq and transformers the penalty stays in a beam's score.
  """

  _options: Options

  def decode(self, block: Block) -> list[list[Completion]]:
    options = self._options
    penalty = float(options.diversity_penalty)
    found = search(block, options, options.groups, penalty)
    return [self._best(_in_turn(groups)) for groups in found]


def _in_turn(groups: list[list[Completion]]) -> list[Completion]:
  """The best of each group, then the second of each: n are n different ones.

  Within a turn the best first.
  """
  longest = max(map(len, groups))
  turns = [
    [group[i] for group in groups if i < len(group)] for i in range(longest)
  ]
  return [c for turn in turns for c in sorted(turn, key=lambda c: -c.score)]
