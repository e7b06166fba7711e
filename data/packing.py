"""Documents to rows of T slots (Ding et al. 2024, arXiv:2404.10830).

A document's ids get BOS in front and EOS behind; its (input, target) pairs are
cut into pieces of at most T, which are put into rows, best fit first. Every
token but BOS is a target exactly once.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

WINDOW = 1 << 20  # slots of short pieces that are held back and fitted together

Ids = Sequence[int] | np.ndarray


class Row(NamedTuple):
  """T slots: what the model reads, and what it is to predict there.

  segment_ids: 1, 2, 3, ... for the pieces of the row; 0 on padding.
  positions: from 0 within each piece; 0 on padding.
  """

  tokens: Int32[np.ndarray, " T"]
  targets: Int32[np.ndarray, " T"]
  segment_ids: Int32[np.ndarray, " T"]
  positions: Int32[np.ndarray, " T"]


def weights(
  segment_ids: Int32[np.ndarray, "..."],
) -> Float32[np.ndarray, "..."]:
  """Returns 1 on real slots and 0 on padding."""
  return (segment_ids > 0).astype(np.float32)


def positions(
  segment_ids: Int32[np.ndarray, "*B T"],
) -> Int32[np.ndarray, "*B T"]:
  """Returns the place of each slot within its piece; 0 on padding."""
  slots = np.arange(segment_ids.shape[-1], dtype=np.int32)
  starts = np.diff(segment_ids, prepend=-1) != 0
  first = np.maximum.accumulate(np.where(starts, slots, 0), axis=-1)
  return np.where(segment_ids > 0, slots - first, 0).astype(np.int32)


def pieces(
  ids: Ids, seq_len: int, bos_id: int, eos_id: int
) -> Iterator[Int32[np.ndarray, "2 N"]]:
  """Yields the document's (inputs, targets), cut into at most T = seq_len.

  A piece's first input is the last target of the piece before it, so that the
  cut costs context but no prediction.
  """
  tokens = np.empty(len(ids) + 2, np.int32)
  tokens[0], tokens[1:-1], tokens[-1] = bos_id, ids, eos_id
  pairs = np.stack((tokens[:-1], tokens[1:]))
  for start in range(0, pairs.shape[1], seq_len):
    yield pairs[:, start : start + seq_len]


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
  """Assigns items to bins: longest first, each to the fullest bin it fits.

  O(n log n): open bins are looked up by what is left of them, of which there
  are at most `capacity` different values.

  Args:
    lengths: of the items, each in [1, capacity].

  Returns:
    For each bin, in the order they were opened, the indices of its items.
  """
  bins: list[list[int]] = []
  open_bins: dict[int, list[int]] = {}  # slots left -> bins
  left: list[int] = []  # the keys of open_bins, sorted
  for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
    at = bisect.bisect_left(left, lengths[item])
    if at < len(left):
      room = left[at]
      number = open_bins[room].pop()
      if not open_bins[room]:
        del open_bins[room], left[at]
    else:
      room, number = capacity, len(bins)
      bins.append([])
    bins[number].append(item)
    room -= lengths[item]
    if room:
      if room not in open_bins:
        open_bins[room] = []
        bisect.insort(left, room)
      open_bins[room].append(number)
  return bins


def pack(
  documents: Iterable[Ids],
  seq_len: int,
  *,
  bos_id: int,
  eos_id: int,
  pad_id: int,
  window: int = WINDOW,
) -> Iterator[Row]:
  """Yields rows that hold each document's tokens once; see the file's top.

  Args:
    documents: ids of each document, without specials; read as they come.
    seq_len: T.
    window: slots of pieces shorter than T that wait to be fitted together,
      the bound on memory.
  """
  waiting: list[np.ndarray] = []
  slots = 0
  for ids in documents:
    for piece in pieces(ids, seq_len, bos_id, eos_id):
      if piece.shape[1] == seq_len:
        yield _row([piece], seq_len, pad_id)
        continue
      waiting.append(piece)
      slots += piece.shape[1]
    if slots >= window:
      yield from _fitted(waiting, seq_len, pad_id)
      waiting, slots = [], 0
  yield from _fitted(waiting, seq_len, pad_id)


def _fitted(
  waiting: Sequence[np.ndarray], seq_len: int, pad_id: int
) -> Iterator[Row]:
  for items in best_fit([piece.shape[1] for piece in waiting], seq_len):
    yield _row([waiting[item] for item in items], seq_len, pad_id)


def _row(row_pieces: Sequence[np.ndarray], seq_len: int, pad_id: int) -> Row:
  pairs = np.full((2, seq_len), pad_id, np.int32)
  segment_ids = np.zeros(seq_len, np.int32)
  start = 0
  for segment, piece in enumerate(row_pieces, 1):
    end = start + piece.shape[1]
    pairs[:, start:end] = piece
    segment_ids[start:end] = segment
    start = end
  return Row(pairs[0], pairs[1], segment_ids, positions(segment_ids))
