"""Packing: no token is lost, doubled or put beside the wrong target."""

import random

import numpy as np
import pytest

from ablax.data import packing

PROVES = ("feature:packing",)

BOS, EOS, PAD = 1, 2, 0


def pack(documents, seq_len, **kwargs):
  return list(
    packing.pack(
      documents, seq_len, bos_id=BOS, eos_id=EOS, pad_id=PAD, **kwargs
    )
  )


def row_pieces(row):
  """Returns the (tokens, targets) of each segment of a row."""
  return [
    (row.tokens[row.segment_ids == s], row.targets[row.segment_ids == s])
    for s in range(1, row.segment_ids.max() + 1)
  ]


def random_documents(seed, n=60, longest=70):
  """Documents whose ids are unique, so that each can be followed."""
  rng = random.Random(seed)
  documents, start = [], 10
  for _ in range(n):
    length = rng.choice([1, rng.randrange(1, 8), rng.randrange(1, longest)])
    documents.append(list(range(start, start + length)))
    start += length
  return documents


def rebuilt(rows):
  """Joins pieces by their unique tokens into the documents' full id lists."""
  starts, after = [], {}
  for row in rows:
    for tokens, targets in row_pieces(row):
      if tokens[0] == BOS:
        starts.append(list(targets))
      else:
        assert tokens[0] not in after
        after[int(tokens[0])] = list(targets)
      assert (tokens[1:] == targets[:-1]).all()
  whole = []
  for ids in starts:
    while ids[-1] != EOS:
      ids = ids + after.pop(int(ids[-1]))
    whole.append([int(i) for i in ids])
  assert not after
  return sorted(whole)


@pytest.mark.parametrize("seq_len", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("window", [1, 50, 10**6])
def test_packed_rows_reproduce_every_document_exactly_once(seq_len, window):
  for seed in range(8):
    documents = random_documents(seed)
    rows = pack(documents, seq_len, window=window)
    assert rebuilt(rows) == sorted([*ids, EOS] for ids in documents)


def test_every_token_but_bos_is_a_target_exactly_once():
  documents = random_documents(3)
  rows = pack(documents, 13)
  targets = np.concatenate([row.targets[row.segment_ids > 0] for row in rows])
  expected = [i for ids in documents for i in [*ids, EOS]]
  assert sorted(targets.tolist()) == sorted(expected)


def test_two_short_documents_share_a_row_worked_by_hand():
  (row,) = pack([[5, 6], [7]], 6)
  assert row.tokens.tolist() == [1, 5, 6, 1, 7, 0]
  assert row.targets.tolist() == [5, 6, 2, 7, 2, 0]
  assert row.segment_ids.tolist() == [1, 1, 1, 2, 2, 0]
  assert row.positions.tolist() == [0, 1, 2, 0, 1, 0]
  assert packing.weights(row.segment_ids).tolist() == [1, 1, 1, 1, 1, 0]
  assert {array.dtype for array in row} == {np.dtype(np.int32)}


def test_a_long_document_is_cut_without_losing_a_prediction():
  rows = pack([[5, 6, 7, 8]], 2)
  assert [row.tokens.tolist() for row in rows] == [[1, 5], [6, 7], [8, 0]]
  assert [row.targets.tolist() for row in rows] == [[5, 6], [7, 8], [2, 0]]
  assert [row.positions.tolist() for row in rows] == [[0, 1], [0, 1], [0, 0]]


def test_segments_count_up_and_padding_comes_last():
  for row in pack(random_documents(1), 17):
    real = row.segment_ids[row.segment_ids > 0]
    assert (row.segment_ids[: len(real)] == real).all()
    assert real[0] == 1 and set(np.diff(real)) <= {0, 1}


def test_positions_of_a_batch_are_those_of_its_rows():
  rows = pack(random_documents(2), 17)
  batch = packing.positions(np.stack([row.segment_ids for row in rows]))
  assert (batch == np.stack([row.positions for row in rows])).all()


def test_best_fit_puts_each_item_in_one_bin_and_overfills_none():
  for seed in range(50):
    rng = random.Random(seed)
    capacity = rng.randrange(1, 40)
    lengths = [rng.randint(1, capacity) for _ in range(rng.randrange(0, 200))]
    bins = packing.best_fit(lengths, capacity)
    assert sorted(i for items in bins for i in items) == list(
      range(len(lengths))
    )
    assert all(sum(lengths[i] for i in items) <= capacity for items in bins)


def test_best_fit_takes_the_fullest_bin_that_has_room():
  # 7 and 6 open two bins with 3 and 4 left; 3 fits both and fills the first.
  assert packing.best_fit([6, 7, 3], 10) == [[1, 2], [0]]


def test_best_fit_is_as_good_as_trying_every_open_bin():
  def obvious(lengths, capacity):
    left = []
    for length in sorted(lengths, reverse=True):
      fits = [room for room in left if room >= length]
      if fits:
        left[left.index(min(fits))] -= length
      else:
        left.append(capacity - length)
    return len(left)

  for seed in range(30):
    rng = random.Random(seed)
    lengths = [rng.randint(1, 30) for _ in range(150)]
    assert len(packing.best_fit(lengths, 30)) == obvious(lengths, 30)


def test_best_fit_fills_more_than_97_percent_of_the_slots():
  rng = random.Random(0)
  documents = [[9] * rng.randrange(1, 900) for _ in range(800)]
  rows = pack(documents, 256)
  fill = np.mean([row.segment_ids > 0 for row in rows])
  assert fill > 0.97


def test_a_small_window_bounds_what_is_held_back():
  read = 0

  def documents():
    nonlocal read
    for _ in range(1000):
      read += 1
      yield [9] * 5

  rows = packing.pack(
    documents(), 16, bos_id=BOS, eos_id=EOS, pad_id=PAD, window=60
  )
  next(rows)
  assert read == 10  # 6 targets each
