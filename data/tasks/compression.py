"""Compression (Poli et al. 2024, arXiv:2403.17844).

    x1 x2 ... xn = i3 i1 ... in

Random symbols, and after the sign the symbol at each place is asked, in any
order, where an index is read. MAD's decoder is an MLP on the vector of the
sign and a place; a language model has none, so the index takes the part of the
place. What is read after the sign has to come through the state: for a state
of fixed size it is MAD's question, while attention may look back, and so is
not held to one vector.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, at_least, need

COMPRESS, FIRST = 1, 2


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of compression: symbols, MAD's vocabulary less its sign."""

  symbols: int = 15

  def __post_init__(self):
    super().__post_init__()
    at_least(self, symbols=2)


class Compression(Task):
  """The first (T - 1) / 2 slots are read; each has an index of its own."""

  options: Options

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 3, "a symbol, the sign and an index")
    self.n = (seq_len - 1) // 2
    self.vocab_size = FIRST + options.symbols + self.n

  def draw(self, rng: np.random.Generator) -> Row:
    n = self.n
    read = FIRST + rng.integers(self.options.symbols, size=n)
    order = rng.permutation(n)
    tokens, targets, segment_ids = np.zeros((3, self.seq_len), np.int32)
    tokens[:n] = read
    tokens[n] = COMPRESS
    tokens[n + 1 : 2 * n + 1] = FIRST + self.options.symbols + order
    targets[n + 1 : 2 * n + 1] = read[order]
    segment_ids[: 2 * n + 1] = 1
    return Row(tokens, targets, (targets > 0).astype(np.float32), segment_ids)
