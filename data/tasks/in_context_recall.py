"""In-context recall (Poli et al. 2024, arXiv:2403.17844).

    k1 v1 k3 v2 k1 v1 ...

Keys with their values, which each row draws anew; the value is asked wherever
the key has been there before, and always in the last pair. MAD trains on every
next token; here, as in its evaluation, on the asked ones alone.
"""

import dataclasses

import numpy as np

from ...errors import UserError
from . import Row, Task, TaskOptions, need, next_symbol_row


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of in_context_recall: half of the symbols are keys."""

  symbols: int = 16

  def __post_init__(self):
    super().__post_init__()
    if self.symbols < 4:
      raise UserError(
        f"symbols={self.symbols} must be at least 4: two keys and two values"
      )


class InContextRecall(Task):
  """Pairs of a key and a value, and pairs of noise where there is a share."""

  options: Options
  noise_share = 0.0
  n_noise = 0

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 3, "a pair and a query")
    self.n_keys = options.symbols // 2
    self.n_values = options.symbols - self.n_keys
    self.n_pairs = (seq_len + 1) // 2
    self.vocab_size = 1 + options.symbols + self.n_noise

  def draw(self, rng: np.random.Generator) -> Row:
    n = self.n_pairs
    value_of = rng.integers(self.n_values, size=self.n_keys)
    keys = rng.integers(self.n_keys, size=n)
    noise = np.zeros(n, bool)
    if self.noise_share:
      noise[:-1] = rng.random(n - 1) < self.noise_share
      noise[rng.integers(n - 1)] = False
    # The last key is one that was there.
    shown = np.unique(keys[:-1][~noise[:-1]])
    keys[-1] = shown[rng.integers(len(shown))]
    seen = np.ones(n, bool)
    real = np.flatnonzero(~noise)
    seen[real[np.unique(keys[real], return_index=True)[1]]] = False
    symbols = np.stack([1 + keys, 1 + self.n_keys + value_of[keys]], axis=1)
    if self.noise_share:
      drawn = rng.integers(self.n_noise, size=(n, 2))
      symbols[noise] = 1 + self.options.symbols + drawn[noise]
    asked = np.zeros((n, 2), bool)
    asked[:, 1] = seen & ~noise
    return next_symbol_row(symbols.reshape(-1), asked.reshape(-1), self.seq_len)
