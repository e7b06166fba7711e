"""Memorization of facts (Poli et al. 2024, arXiv:2403.17844).

    k3 ? k1 ? k8 ? ...

Keys of a table that is the same in every row, each followed by a sign at which
its value is asked. Nothing in the row tells it: it must be in the weights. An
evaluation asks for the same facts, in other rows.
"""

import dataclasses

import numpy as np

from . import Row, Task, TaskOptions, at_least, need

INSERT, FIRST = 1, 2


@dataclasses.dataclass(frozen=True)
class Options(TaskOptions):
  """Options of memorization.

  Attributes:
    n_facts: keys, and as many values.
    task_seed: of the table; data.seed draws rows from it.
  """

  n_facts: int = 127
  task_seed: int = 0

  def __post_init__(self):
    super().__post_init__()
    at_least(self, n_facts=2, task_seed=0)


class Memorization(Task):
  options: Options
  splits = False  # a fact can be asked only of one who was told

  def __init__(self, options: Options, seq_len: int):
    super().__init__(options, seq_len)
    need(seq_len, 2, "a key and its value")
    self.vocab_size = FIRST + 2 * options.n_facts
    rng = np.random.default_rng([options.task_seed, options.n_facts])
    self._value_of = rng.permutation(options.n_facts)

  def draw(self, rng: np.random.Generator) -> Row:
    T, n_facts = self.seq_len, self.options.n_facts
    n = T // 2
    keys = rng.integers(n_facts, size=n)
    tokens, targets, segment_ids = np.zeros((3, T), np.int32)
    tokens[0 : 2 * n : 2] = FIRST + keys
    tokens[1 : 2 * n : 2] = INSERT
    targets[1 : 2 * n : 2] = FIRST + n_facts + self._value_of[keys]
    segment_ids[: 2 * n] = 1
    return Row(tokens, targets, (targets > 0).astype(np.float32), segment_ids)
