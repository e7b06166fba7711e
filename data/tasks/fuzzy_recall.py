"""Fuzzy in-context recall (Poli et al. 2024, arXiv:2403.17844).

    k1 k4 v2 | k3 v1 v5 v2 | k1 k4 v2 ...

Keys and values are runs of one to three symbols, none of them twice in a run;
a key counts as a whole. Each symbol of a value is asked where the key has been
there before, and at the end. In evaluation, as in MAD, every key has the full
length. MAD fills up on the left with a symbol; here padding on the right does.
"""

import dataclasses

import numpy as np

from ...errors import UserError
from . import Row, Task, TaskOptions, at_least, need, next_symbol_row


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of fuzzy_recall.

  Attributes:
    symbols: half of them are keys', half values'.
    key_size, value_size: most symbols of a key and of a value.
  """

  symbols: int = 16
  key_size: int = 3
  value_size: int = 3

  def __post_init__(self):
    super().__post_init__()
    at_least(self, key_size=1, value_size=1)
    if self.symbols // 2 < max(self.key_size + 1, self.value_size):
      raise UserError(
        f"symbols={self.symbols} has {self.symbols // 2} for keys, too few for"
        f" key_size={self.key_size} and value_size={self.value_size}; raise it"
      )


class FuzzyRecall(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    size = options.key_size + options.value_size
    need(seq_len, 2 * size, "two pairs of the longest key and value")
    self.n_keys = options.symbols // 2
    self.n_values = options.symbols - self.n_keys
    self.vocab_size = 1 + options.symbols

  def draw(self, rng: np.random.Generator) -> Row:
    return self._draw(rng, 1)

  def draw_heldout(self, rng: np.random.Generator) -> Row:
    return self._draw(rng, self.options.key_size)

  def _draw(self, rng: np.random.Generator, least: int) -> Row:
    most = (self.options.key_size, self.options.value_size)
    n = self.seq_len // 2 + 1  # no pair has less than two symbols
    key_sizes = rng.integers(least, most[0] + 1, size=n)
    value_sizes = rng.integers(1, most[1] + 1, size=n).tolist()
    keys = 1 + rng.random((n, self.n_keys)).argsort(axis=1)[:, : most[0]]
    values = rng.random((n, self.n_values)).argsort(axis=1)[:, : most[1]]
    values = (1 + self.n_keys + values).tolist()
    keys, key_sizes = keys.tolist(), key_sizes.tolist()

    known: dict[tuple[int, ...], list[int]] = {}
    symbols: list[int] = []
    asked: list[bool] = []

    def add(key: tuple[int, ...], value: list[int]) -> None:
      seen = key in known
      value = known.setdefault(key, value)
      symbols.extend([*key, *value])
      asked.extend([False] * len(key) + [seen] * len(value))

    room = self.seq_len + 1 - 2 * sum(most)  # for one pair more, and the last
    for i in range(n):
      if len(symbols) > room:
        break
      add(tuple(keys[i][: key_sizes[i]]), values[i][: value_sizes[i]])
    add(list(known)[rng.integers(len(known))], [])
    return next_symbol_row(np.array(symbols), np.array(asked), self.seq_len)
