"""Modular addition, on which models grok (Power et al. 2022, arXiv:2201.02177).

    a + b = | a + b = | ...

Equations modulo `modulus`, one in every four slots, which do not see each
other; asked is the sum, at the sign. Of all pairs (a, b) a share is for
training, and the rest is for evaluation alone.
"""

import dataclasses

import numpy as np

from ...errors import UserError
from . import Row, Task, TaskOptions, at_least, need

PLUS, EQUALS, FIRST = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of modular_addition.

  Attributes:
    modulus: numbers are 0 ... modulus - 1.
    train_share: of all pairs, in (0, 1).
    task_seed: of which pairs are for training.
  """

  modulus: int = 97
  train_share: float = 0.5
  task_seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    at_least(self, modulus=2, task_seed=0)
    n = round(self.train_share * self.modulus**2)
    if not 0 < n < self.modulus**2:
      raise UserError(
        f"train_share={self.train_share} leaves {n} of {self.modulus**2} pairs"
        " for training; both sides must have one: use a number in (0, 1)"
      )


class ModularAddition(Task):
  options: Options
  splits = False  # the pairs are split, and with them the rows

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 4, "a + b =")
    p = options.modulus
    self.vocab_size = FIRST + p
    rng = np.random.default_rng([options.task_seed, p])
    pairs = rng.permutation(p * p)
    n = round(options.train_share * p * p)
    self._train, self._heldout = pairs[:n], pairs[n:]

  def draw(self, rng: np.random.Generator) -> Row:
    return self._draw(rng, self._train)

  def draw_heldout(self, rng: np.random.Generator) -> Row:
    return self._draw(rng, self._heldout)

  def _draw(self, rng: np.random.Generator, pairs: np.ndarray) -> Row:
    n = self.seq_len // 4
    a, b = np.divmod(
      pairs[rng.integers(len(pairs), size=n)], self.options.modulus
    )
    plus, equals = np.full((2, n), [[PLUS], [EQUALS]])
    read = np.stack([FIRST + a, plus, FIRST + b, equals], axis=1)
    tokens, targets, segment_ids = np.zeros((3, self.seq_len), np.int32)
    tokens[: 4 * n] = read.reshape(-1)
    targets[3 : 4 * n : 4] = FIRST + (a + b) % self.options.modulus
    segment_ids[: 4 * n] = np.repeat(np.arange(1, n + 1), 4)
    return Row(tokens, targets, (targets > 0).astype(np.float32), segment_ids)
