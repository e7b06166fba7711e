"""Best of n samples (Stiennon et al. 2020, arXiv:2009.01325)."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ...errors import UserError
from ..session import Block
from ..settings import Sampling, check_types
from ..text import Completion
from . import Decoder
from .sample import draw

Score = Callable[[str, Completion], float | int]


def mean_logprob(prompt: str, completion: Completion) -> float:
  """Nats a token, by the model itself."""
  del prompt
  return float(np.mean(completion.logprobs))


def sum_logprob(prompt: str, completion: Completion) -> float:
  """Nats, by the model itself: short completions win."""
  del prompt
  return float(np.sum(completion.logprobs))


_SCORES: dict[str, Score] = {"mean": mean_logprob, "sum": sum_logprob}


@dataclasses.dataclass(frozen=True)
class Options:
  """How many to draw, and what is best.

  Attributes:
    candidates: samples drawn of each prompt, of which the best `n` are kept.
    rank_by: mean or sum of the log-probabilities; in Python also a function
      (text of the prompt, completion) -> score.
  """

  candidates: int = 8
  rank_by: str | Score = "mean"

  def __post_init__(self):
    check_types(self)
    if self.candidates < 1:
      raise UserError(f"candidates={self.candidates} must be at least 1")
    if isinstance(self.rank_by, str) and self.rank_by not in _SCORES:
      raise UserError(
        f"rank_by={self.rank_by!r} is not one of {', '.join(_SCORES)}"
      )


class BestOfN(Decoder):
  """The best of some samples, of which the first n are those of `sample`."""

  def __init__(self, options: Options, sampling: Sampling):
    if sampling.n > options.candidates:
      raise UserError(
        f"n={sampling.n} is more than candidates={options.candidates}; raise"
        " candidates"
      )
    if sampling.temperature == 0:
      raise UserError(
        f"candidates={options.candidates}: temperature=0 draws nothing, so all"
        " would be one; raise temperature, or use decoding=sample"
      )
    by = options.rank_by
    self._score = _SCORES[by] if isinstance(by, str) else by
    self._n, self._candidates = sampling.n, options.candidates

  def decode(self, block: Block) -> list[list[Completion]]:
    found = []
    drawn = draw(block, self._candidates)
    for i, completions in enumerate(drawn):
      scored = [
        dataclasses.replace(c, score=float(self._score(block.text(i), c)))
        for c in completions
      ]
      # Stable: of equal ones the first drawn.
      scored.sort(key=lambda completion: -completion.score)
      found.append(scored[: self._n])
    return found
