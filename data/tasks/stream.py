"""Row i of a task, from i alone.

Each row has a random generator of its own: Philox (Salmon et al. 2011,
doi:10.1145/2063384.2063405), whose key is a hash of the task, the options that
rows are made by, the length, and the side or the seed, and whose counter
begins at i. So rows need no state, and no order.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import NOTHING, Row, Task

# Rows of a stream without end: of several sources Grain adds up the lengths,
# which must fit 64 bits.
ENDLESS = 1 << 48
# Of a fingerprint. Were it of the options alone, it would not see that the code
# which makes the rows, or numpy's way to draw them, has changed.
_SAMPLE = 16


class Rows:
  """The rows of one side of a task at one length.

  Args:
    name: of the entry.
    facts: the options that rows are made by.
    seed: of training rows; None: the held-out rows, which have none.
  """

  def __init__(
    self, name: str, facts: Mapping[str, Any], task: Task, seed: int | None
  ):
    self._task = task
    self._heldout = seed is None
    side = "heldout" if seed is None else f"train {seed}"
    words = json.dumps([name, dict(facts), task.seq_len, side], sort_keys=True)
    digest = hashlib.sha256(words.encode()).digest()
    self._key = int.from_bytes(digest[:16], "little")

  def rng(self, i: int, purpose: int = 0) -> np.random.Generator:
    # A row may draw 2^128 numbers before it comes to the next one's.
    counter = (purpose << 192) + (i << 128)
    return np.random.Generator(np.random.Philox(key=self._key, counter=counter))

  def __getitem__(self, i: int) -> Row:
    return self._task.example(self.rng(i), self._heldout)


class Numbered:
  """Rows with their numbers, in the order in which they are read.

  Args:
    n_rows: different ones; 0: endless.
    multiple_of: what the held-out rows are filled up to, with rows of weight 0
      and number -1; 0: training, which never ends.
  """

  def __init__(self, rows: Rows, n_rows: int, multiple_of: int = 0):
    self._rows = rows
    self._n_rows = n_rows
    self._endless = not multiple_of
    self._length = ENDLESS
    if multiple_of:
      self._length = -(-n_rows // multiple_of) * multiple_of
    # Two epochs: threads that read ahead are in both at a border.
    self._order = functools.lru_cache(maxsize=2)(self._new_order)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, i: int) -> tuple[int, Row]:
    if self._n_rows and self._endless:
      epoch, place = divmod(i, self._n_rows)
      i = int(self._order(epoch)[place])
    if self._n_rows and i >= self._n_rows:
      return -1, self._empty()
    return i, self._rows[i]

  def _new_order(self, epoch: int) -> np.ndarray:
    return self._rows.rng(epoch, purpose=1).permutation(self._n_rows)

  def _empty(self) -> Row:
    zeros = np.full_like(self._rows[0].tokens, NOTHING)
    return Row(zeros, zeros, zeros.astype(np.float32), zeros)


def fingerprint(
  name: str, facts: Mapping[str, Any], task: Task, *more: int
) -> str:
  """Returns a hash of a task's rows: the same for every seed of a run.

  Args:
    more: what else tells two data sets apart.
  """
  digest = hashlib.sha256(json.dumps([name, dict(facts), *more]).encode())
  for seed in (0, None):
    rows = Rows(name, facts, task, seed)
    for i in range(_SAMPLE):
      for array in rows[i]:
        digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()[:32]
