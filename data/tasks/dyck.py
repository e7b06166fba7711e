"""Dyck languages of bounded depth (Hewitt et al. 2020, arXiv:2010.07515).

    ( [ ] { } ) [ ...

Brackets of n_brackets kinds, nested depth deep at most: with any open one the
next closes or opens as a coin falls, and it must close at the greatest depth.
Asked is which bracket closes, where one does: what the paper scores. Rows are
cut at T, while the paper's strings end when all is closed.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, at_least, need, next_symbol_row

FIRST = 1


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of dyck: the paper's k and m."""

  n_brackets: int = 8
  depth: int = 5

  def __post_init__(self):
    super().__post_init__()
    at_least(self, n_brackets=2, depth=1)


class Dyck(Task):
  """Ids 1 ... k open, and k + 1 ... 2k close in the same order."""

  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    # Soon enough, so that each row asks for something.
    need(seq_len, options.depth + 1, f"depth={options.depth} and a closing one")
    self.vocab_size = FIRST + 2 * options.n_brackets

  def draw(self, rng: np.random.Generator) -> Row:
    k, depth, T = self.options.n_brackets, self.options.depth, self.seq_len
    coins = (rng.random(T + 1) < 0.5).tolist()
    kinds = (FIRST + rng.integers(k, size=T + 1)).tolist()
    is_open: list[int] = []
    symbols, closes = [], []
    for coin, kind in zip(coins, kinds, strict=True):
      close = bool(is_open) and (coin or len(is_open) == depth)
      closes.append(close)
      if close:
        symbols.append(is_open.pop() + k)
      else:
        is_open.append(kind)
        symbols.append(kind)
    return next_symbol_row(np.array(symbols), np.array(closes), T)
