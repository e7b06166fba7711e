"""Batches in an order that hosts, shards and restarts do not change (Grain).

The global stream is one: of each source every epoch's rows in a new order, end
to end; and of several sources the next row of each in turn, as often as its
share says. Batch b is its rows b*B ... (b+1)*B - 1, and shard s of n reads the
s-th n-th of each batch, so that any number of hosts trains on the same batches.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import grain
import numpy as np
from jaxtyping import Float32, Int32, Int64

from ..errors import UserError
from . import packing
from .config import DataConfig
from .prepared import Prepared
from .tasks import Row, stream

# Threads that read ahead. They share Python's lock: from the page cache 1, 2
# and 4 of them gave 4.1, 3.1 and 2.0 million tokens/s on 2 cores; the second
# hides the latency of a slow disk.
_READERS = 2


class Batch(TypedDict):
  """One shard's part of a batch.

  weights: 1 on real slots, 0 on padding; of a task, 1 where it asks.
  example_ids: place in the global batch, from 0; dropout draws from it.
  row: place in the packed file, counted on from that of the source before, or
    a task's number; -1 for a row that only fills the last batch.
  """

  tokens: Int32[np.ndarray, "B T"]
  targets: Int32[np.ndarray, "B T"]
  segment_ids: Int32[np.ndarray, "B T"]
  positions: Int32[np.ndarray, "B T"]
  weights: Float32[np.ndarray, "B T"]
  example_ids: Int32[np.ndarray, " B"]
  row: Int64[np.ndarray, " B"]


class Batches(Iterator[Batch]):
  """An endless iterator whose state is the number of batches it has given."""

  def __init__(self, batches: grain.MapDataset, prefetch: int):
    self._batches = batches
    self._prefetch = prefetch
    self._given = 0
    self._iterator = _iterate(batches, prefetch)

  def __next__(self) -> Batch:
    batch = next(self._iterator)
    self._given += 1
    return batch

  def state(self) -> dict[str, int]:
    """Returns what `restore` goes on from; the same on every shard."""
    return {"batches": self._given}

  def restore(self, state: dict[str, int]) -> None:
    """Goes to where `state` was taken, on any number of shards."""
    self._iterator.close()
    self._given = int(state["batches"])
    self._iterator = _iterate(self._batches[self._given :], self._prefetch)

  def close(self) -> None:
    """Stops the reading threads."""
    self._iterator.close()


def train_batches(
  prepared: Prepared,
  config: DataConfig,
  *,
  shard: int = 0,
  n_shards: int = 1,
) -> Batches:
  """Returns this shard's part of the endless, shuffled training stream.

  Args:
    shard: which part of each batch, in [0, n_shards).
    n_shards: parts that a batch is cut into; must divide data.batch_size.

  Raises:
    UserError: data.batch_size is not a multiple of n_shards.
  """
  if config.task:
    rows = _task_rows(config, config.seq_len, config.seed)
    numbered = stream.Numbered(rows, config.task_options.train_rows)
    return Batches(
      _batched(_source(numbered), config.batch_size, shard, n_shards, _of_task),
      config.prefetch,
    )
  first_rows = itertools.accumulate(
    (part.n_train_rows for part in prepared.parts), initial=0
  )
  streams = [
    _source(_Rows(part.folder / "train.array_record", first_row))
    .shuffle(_shuffle_seed(config.seed, i))
    .repeat(stream.ENDLESS // part.n_train_rows)
    for i, (part, first_row) in enumerate(
      zip(prepared.parts, first_rows, strict=False)
    )
  ]
  mixed = streams[0]
  if len(streams) > 1:
    mixed = grain.MapDataset.mix(
      streams, [part.share for part in prepared.parts]
    )
  return Batches(
    _batched(mixed, config.batch_size, shard, n_shards), config.prefetch
  )


def heldout_batches(
  prepared: Prepared,
  config: DataConfig,
  *,
  part: int = 0,
  length: int = 0,
  shard: int = 0,
  n_shards: int = 1,
) -> Iterator[Batch]:
  """Yields this shard's part of a source's held-out rows, once, in their order.

  The last batch is filled up to B with rows of weight 0.

  Args:
    part: which of the sources.
    length: T, one of `data.eval_lengths`; 0: that of training.

  Raises:
    UserError: data.batch_size is not a multiple of n_shards.
  """
  source = prepared.parts[part]
  file = source.folder / "heldout.array_record"
  if length not in (0, prepared.seq_len):
    file = source.at_lengths[length]
  empty = np.zeros((3, length or prepared.seq_len), "<i4")
  empty[:2] = prepared.tokenizer.pad_id
  rows = _Rows(file, fill=empty.tobytes(), multiple_of=config.batch_size)
  batches = _batched(_source(rows), config.batch_size, shard, n_shards)
  return _iterate(batches, config.prefetch)


def heldout_task_batches(
  config: DataConfig,
  seq_len: int = 0,
  *,
  shard: int = 0,
  n_shards: int = 1,
) -> Iterator[Batch]:
  """As `heldout_batches`, of a task.

  Args:
    seq_len: T; 0: that of training.
  """
  rows = _task_rows(config, seq_len or config.seq_len, None)
  source = _source(
    stream.Numbered(rows, config.task_options.heldout_rows, config.batch_size)
  )
  batches = _batched(source, config.batch_size, shard, n_shards, _of_task)
  return _iterate(batches, config.prefetch)


def _task_rows(
  config: DataConfig, seq_len: int, seed: int | None
) -> stream.Rows:
  facts = config.task_options.facts
  return stream.Rows(config.task, facts, config.make_task(seq_len), seed)


def _source(rows: "_Rows | stream.Numbered") -> grain.MapDataset:
  # Any: Grain's protocol asks for a repr that only its own sources have.
  source: Any = rows
  return grain.MapDataset.source(source)


class _Rows:
  """The records of one file as (row, bytes), filled up to a multiple."""

  def __init__(
    self,
    file: pathlib.Path,
    first_row: int = 0,
    *,
    fill: bytes = b"",
    multiple_of: int = 1,
  ):
    self._records: Any = grain.sources.ArrayRecordDataSource(str(file))
    self._first_row = first_row
    self._fill = fill
    self._length = -(-len(self._records) // multiple_of) * multiple_of

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, row: int) -> tuple[int, bytes]:
    if row >= len(self._records):
      return -1, self._fill
    return self._first_row + row, self._records[row]


class _Shard(grain.MapDataset):
  """The s-th n-th of each run of B elements; the rest is not read."""

  def __init__(
    self, parent: grain.MapDataset, batch_size: int, shard: int, n_shards: int
  ):
    super().__init__(parent)
    self._batch_size = batch_size
    self._part = batch_size // n_shards
    self._first = shard * self._part

  def __len__(self) -> int:
    return len(self._parent) // self._batch_size * self._part

  def __getitem__(self, index: int | slice) -> Any:
    if isinstance(index, slice):
      return self.slice(index)
    batch, place = divmod(index, self._part)
    return self._parent[batch * self._batch_size + self._first + place]


def _batched(
  rows: grain.MapDataset,
  batch_size: int,
  shard: int,
  n_shards: int,
  arrays: Callable[[Sequence[Any]], tuple[np.ndarray, ...]] | None = None,
) -> grain.MapDataset:
  """Batches of a shard.

  Args:
    arrays: from what rows are read as to tokens, targets, segment_ids and
      weights, each [B, T]; default: from the records of a packed file.
  """
  if batch_size % n_shards:
    raise UserError(
      f"data.batch_size={batch_size} is not a multiple of the {n_shards} data"
      f" shards; use {-(-batch_size // n_shards) * n_shards}"
    )
  assert 0 <= shard < n_shards, (shard, n_shards)
  part = batch_size // n_shards
  places = np.arange(shard * part, (shard + 1) * part, dtype=np.int32)
  arrays = arrays or _of_records

  def decode(rows: Sequence[tuple[int, Any]]) -> Batch:
    tokens, targets, segment_ids, weights = arrays([row for _, row in rows])
    return Batch(
      tokens=tokens,
      targets=targets,
      segment_ids=segment_ids,
      positions=packing.positions(segment_ids),
      weights=weights,
      example_ids=places,
      row=np.array([row for row, _ in rows], np.int64),
    )

  return _Shard(rows, batch_size, shard, n_shards).batch(part, batch_fn=decode)


def _of_records(records: Sequence[bytes]) -> tuple[np.ndarray, ...]:
  flat = np.frombuffer(b"".join(records), "<i4")
  tokens, targets, segment_ids = np.moveaxis(
    flat.reshape(len(records), 3, -1).astype(np.int32), 1, 0
  )
  return tokens, targets, segment_ids, packing.weights(segment_ids)


def _of_task(rows: Sequence[Row]) -> tuple[np.ndarray, ...]:
  columns = Row(*map(np.stack, zip(*rows, strict=True)))
  return columns.tokens, columns.targets, columns.segment_ids, columns.weights


def _iterate(batches: grain.MapDataset, prefetch: int) -> Any:
  options = grain.ReadOptions(
    num_threads=min(prefetch, _READERS), prefetch_buffer_size=prefetch
  )
  return iter(batches.to_iter_dataset(options))


def _shuffle_seed(seed: int, part: int) -> int:
  """Returns 32 bits that are far apart for neighbouring seeds and sources.

  Grain shuffles epoch e by seed + e: taken as they are, seeds 0 and 1 would
  train on the same order, one epoch apart.
  """
  words = b"shuffle %d" % seed + (b" of %d" % part if part else b"")
  return int.from_bytes(hashlib.sha256(words).digest()[:4])
