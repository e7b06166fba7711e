"""Multi-query associative recall (Arora et al. 2023, arXiv:2312.04927).

    k1 v1 k2 v2 ... | . . k2 . . . . k1 . .

First n_pairs keys, each with a value; then each key once more, at distances
that follow a power law, where its value is asked. As in the paper's code the
slots between are random symbols, and the slot after a query does not show the
answer.
"""

import dataclasses

import numpy as np

from ...errors import UserError
from . import Row, Task, TaskOptions, at_least, need


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of mqar.

  Attributes:
    symbols: half of them are keys, half values; more than 1000 tell
      architectures apart best.
    n_pairs: keys in a row.
    power: of the law of distances; 1 is uniform, less is nearer.
    random_filler: False leaves the slots between queries empty.
  """

  symbols: int = 8192
  n_pairs: int = 8
  power: float = 0.01
  random_filler: bool = True

  def __post_init__(self):
    super().__post_init__()
    at_least(self, n_pairs=1)
    if self.symbols < 2 * self.n_pairs:
      raise UserError(
        f"symbols={self.symbols} is less than twice n_pairs={self.n_pairs}, and"
        " a row has no key and no value twice; raise symbols"
      )
    if not 0 < self.power <= 1:
      raise UserError(f"power={self.power} must be in (0, 1]")


class MQAR(Task):
  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    n = options.n_pairs
    need(seq_len, 4 * n, f"n_pairs={n} keys, values and queries")
    self.n_keys = options.symbols // 2
    self.n_values = options.symbols - self.n_keys
    self.vocab_size = 1 + options.symbols
    space = (seq_len - 2 * n) // 2
    self._law = np.arange(1, space + 1) ** (options.power - 1)

  def draw(self, rng: np.random.Generator) -> Row:
    n, T = self.options.n_pairs, self.seq_len
    keys = 1 + rng.choice(self.n_keys, n, replace=False)
    values = 1 + self.n_keys + rng.choice(self.n_values, n, replace=False)
    # The n least of exponential times are n draws by the law, none twice.
    times = -np.log1p(-rng.random(len(self._law))) / self._law
    places = 2 * n + 2 * np.argsort(times)[:n]
    tokens, targets = np.zeros((2, T), np.int32)
    if self.options.random_filler:
      tokens[2 * n :] = 1 + rng.integers(self.options.symbols, size=T - 2 * n)
    tokens[0 : 2 * n : 2] = keys
    tokens[1 : 2 * n : 2] = values
    tokens[places] = keys
    targets[places] = values
    weights = np.zeros(T, np.float32)
    weights[places] = 1
    return Row(tokens, targets, weights, np.ones(T, np.int32))
