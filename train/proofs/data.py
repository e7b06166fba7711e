"""Proof: one order of the data, for any number of shards, through a resume."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np

from ...data.pipeline import Batch, train_batches
from ...data.prepare import Prepared, prepare
from ..config import Config
from ..step import BATCH
from . import Check


def _global(streams, n: int) -> list[dict[str, np.ndarray]]:
  """The next `n` global batches, put together from every shard's part."""
  batches = []
  for _ in range(n):
    parts = [next(stream) for stream in streams]
    names = [*BATCH, "row"]
    batches.append({k: np.concatenate([p[k] for p in parts]) for k in names})
  return batches


def _first_difference(a, b) -> str | None:
  for i, (x, y) in enumerate(zip(a, b, strict=True)):
    for name in x:
      if not np.array_equal(x[name], y[name]):
        return f"batch {i} differs in {name}"
  return None


def prove(config: Config, batches: int = 6) -> Iterator[Check]:
  """Compares the first batches, bit by bit, and a resume across shards."""
  # Eight shards want a batch of a multiple of eight rows.
  size = math.lcm(config.data.batch_size, 8)
  config = dataclasses.replace(
    config, data=dataclasses.replace(config.data, batch_size=size)
  )
  prepared = prepare(config.data)

  def streams(n):
    return [
      train_batches(prepared, config.data, shard=i, n_shards=n)
      for i in range(n)
    ]

  whole = _global(streams(1), 2 * batches)
  counts = [1, 2, 4, 8]
  for n in counts:
    rows = [row for b in whole[:batches] for row in b["row"].tolist()]
    difference = _first_difference(
      whole[:batches], _global(streams(n), batches)
    )
    yield Check(
      f"{n} shard{'s' if n > 1 else ''}: the same global batches",
      difference is None,
      difference
      or f"rows {', '.join(map(str, rows[:6]))}, ... of {batches} batches",
    )
  for before, after in itertools.pairwise([*counts, counts[0]]):
    first = streams(before)
    _global(first, batches)
    second = streams(after)
    for stream in second:
      stream.restore(first[0].state())
    difference = _first_difference(whole[batches:], _global(second, batches))
    yield Check(
      f"stopped on {before}, resumed on {after}: the order goes on",
      difference is None,
      difference or f"batches {batches} to {2 * batches - 1}",
    )
  yield from _epochs(prepared, train_batches(prepared, config.data))


def _epochs(prepared: Prepared, stream: Iterator[Batch]) -> Iterator[Check]:
  """Reads until every source has gone through its rows once."""
  ends = list(itertools.accumulate(p.n_train_rows for p in prepared.parts))
  seen: list[list[int]] = [[] for _ in ends]
  while any(
    len(rows) < part.n_train_rows
    for rows, part in zip(seen, prepared.parts, strict=True)
  ):
    for row in next(stream)["row"].tolist():
      seen[bisect.bisect_right(ends, row)].append(row)
  for rows, part, end in zip(seen, prepared.parts, ends, strict=True):
    n = part.n_train_rows
    once = rows[:n]
    yield Check(
      f"an epoch of {part.name} has every row exactly once",
      sorted(once) == list(range(end - n, end)),
      f"{len(set(once)):,} different rows of {n:,}",
    )
