"""Needle in a haystack (Hsieh et al. 2024, arXiv:2404.06654).

    . . . ! k1 v1 . . ! k2 v2 . . . ? k1

Random filler, in which needles are put at any depth: a mark, a key and its
value; at the end one key is asked. Of several needles the others are
distractors (RULER's multi-key needles). On symbols, not on text.
"""

import dataclasses

import numpy as np

from ...errors import UserError
from . import Row, Task, TaskOptions, at_least, need

NEEDLE, ASK, FIRST = 1, 2, 3
SIZE = 3  # of a needle


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of needle.

  Attributes:
    n_keys, n_values: that a needle may have.
    n_filler: symbols of the haystack, which are neither.
    n_needles: in a row, of different keys.
  """

  n_keys: int = 16
  n_values: int = 16
  n_filler: int = 32
  n_needles: int = 1

  def __post_init__(self):
    super().__post_init__()
    at_least(self, n_keys=1, n_values=2, n_filler=1, n_needles=1)
    if self.n_needles > self.n_keys:
      raise UserError(
        f"n_needles={self.n_needles} is more than n_keys={self.n_keys}, and no"
        " two needles have one key; raise n_keys"
      )


class Needle(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    n = options.n_needles
    need(seq_len, SIZE * n + 2, f"n_needles={n} and the question")
    self.vocab_size = (
      FIRST + options.n_keys + options.n_values + options.n_filler
    )

  def draw(self, rng: np.random.Generator) -> Row:
    o, T = self.options, self.seq_len
    n = o.n_needles
    keys = FIRST + rng.choice(o.n_keys, n, replace=False)
    values = FIRST + o.n_keys + rng.integers(o.n_values, size=n)
    filler = FIRST + o.n_keys + o.n_values
    tokens = filler + rng.integers(o.n_filler, size=T, dtype=np.int32)
    # Places among the haystack without needles, then moved apart.
    free = T - 2 - SIZE * n
    places = np.sort(rng.integers(free + 1, size=n)) + SIZE * np.arange(n)
    tokens[places] = NEEDLE
    tokens[places + 1] = keys
    tokens[places + 2] = values
    asked = int(rng.integers(n))
    tokens[-2:] = ASK, keys[asked]
    targets = np.zeros(T, np.int32)
    targets[-1] = values[asked]
    return Row(
      tokens, targets, (targets > 0).astype(np.float32), np.ones(T, np.int32)
    )
