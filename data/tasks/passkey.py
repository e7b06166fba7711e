"""Pass-key retrieval (Mohtashami and Jaggi 2023, arXiv:2305.16300).

    f1 f2 f3 ... ! 4 1 7 2 9 & 4 1 7 2 9 f1 f2 ... ? 4 1 7 2 _

A sentence of filler over and over, somewhere in it the pass key, told twice,
and at the end the question: every digit is asked. The paper's prompt, symbol
for symbol; its sentence is `n_filler` symbols here.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, at_least, need, next_symbol_row

TOLD, AGAIN, ASK, FIRST = 1, 2, 3, 4


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of passkey: digits of the key, and symbols of the sentence."""

  n_digits: int = 5
  n_filler: int = 23

  def __post_init__(self):
    super().__post_init__()
    at_least(self, n_digits=1, n_filler=1)


class PassKey(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    n = options.n_digits
    need(seq_len, 3 * n + 2, f"a key of n_digits={n}, twice, and the question")
    self.vocab_size = FIRST + 10 + options.n_filler
    self._filler = FIRST + 10 + np.arange(options.n_filler)

  def draw(self, rng: np.random.Generator) -> Row:
    n, T = self.options.n_digits, self.seq_len
    key = FIRST + rng.integers(10, size=n)
    free = T + 1 - (3 * n + 3)
    before = int(rng.integers(free + 1))
    symbols = np.concatenate(
      [
        np.resize(self._filler, before),
        [TOLD, *key, AGAIN, *key],
        np.resize(self._filler, free - before),
        [ASK, *key],
      ]
    )
    return next_symbol_row(symbols, np.arange(T + 1) > T - n, T)
