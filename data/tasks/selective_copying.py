"""Selective copying (Poli et al. 2024, arXiv:2403.17844).

    x1 . . x2 . x3 . = . . .

Symbols among blanks; after the sign, in their order, each is asked, while the
slots read blanks. MAD's code leaves no blank between the last symbol and the
sign; here the places are uniform.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, at_least, need

BLANK, COPY, FIRST = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of selective_copying.

  Attributes:
    symbols: that may be copied.
    n_copied: of a row.
  """

  symbols: int = 14
  n_copied: int = 16

  def __post_init__(self):
    super().__post_init__()
    at_least(self, symbols=2, n_copied=1)


class SelectiveCopying(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    n = options.n_copied
    need(seq_len, 2 * n + 1, f"n_copied={n} symbols, twice, and the sign")
    self.vocab_size = FIRST + options.symbols

  def draw(self, rng: np.random.Generator) -> Row:
    n, T = self.options.n_copied, self.seq_len
    copied = FIRST + rng.integers(self.options.symbols, size=n)
    places = np.sort(rng.choice(T - n - 1, n, replace=False))
    tokens = np.full(T, BLANK, np.int32)
    tokens[places] = copied
    tokens[T - n - 1] = COPY
    targets = np.zeros(T, np.int32)
    targets[T - n :] = copied
    weights = np.zeros(T, np.float32)
    weights[T - n :] = 1
    return Row(tokens, targets, weights, np.ones(T, np.int32))
