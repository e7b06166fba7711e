"""Parity of bits (Hahn 2020, arXiv:1906.06755).

    1 0 1 1 ... =

Random bits; asked is whether the number of ones is odd, at the sign behind
them or, with every_prefix, at each bit for all up to it.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, need

ZERO, ONE, ASK = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of parity: whether every prefix is asked, or the whole."""

  every_prefix: bool = False


class Parity(Task):
  options: Options
  vocab_size = 4

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 8, "bits of which some are kept for evaluation")

  def draw(self, rng: np.random.Generator) -> Row:
    T = self.seq_len
    bits = rng.integers(2, size=T, dtype=np.int32)
    tokens = ZERO + bits
    targets = ZERO + np.cumsum(bits, dtype=np.int32) % 2
    weights = np.ones(T, np.float32)
    if not self.options.every_prefix:
      # The last bit gives way to the sign.
      tokens[-1], targets[-1] = ASK, targets[-2]
      targets[:-1] = weights[:-1] = 0
    return Row(tokens, targets, weights, np.ones(T, np.int32))
