"""The order of the data: one stream, whatever reads it."""

import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys

import corpora
import grain
import numpy as np
import pytest

from ablax.data import packing, pipeline
from ablax.data.pipeline import heldout_batches, train_batches
from ablax.data.prepare import prepare
from ablax.errors import UserError


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  corpora.write(folder, n=60)
  return corpora.config(folder)


@pytest.fixture(scope="module")
def prepared(config, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("ABLAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    prepared = prepare(config, progress=False)
  assert prepared.n_train_rows % config.batch_size  # epochs end mid-batch
  return prepared


def take(batches, n):
  taken = list(itertools.islice(batches, n))
  batches.close()
  return taken


def assert_equal(batch, other):
  assert batch.keys() == other.keys()
  for name, array in batch.items():
    np.testing.assert_array_equal(array, other[name])


def per_epoch(prepared, config):
  return -(-prepared.n_train_rows // config.batch_size)


@pytest.mark.parametrize("n_shards", [1, 2, 4, 8])
def test_the_global_batches_are_the_same_for_any_number_of_shards(
  prepared, config, n_shards
):
  n = 2 * per_epoch(prepared, config)
  whole = take(train_batches(prepared, config), n)
  parts = [
    take(train_batches(prepared, config, shard=s, n_shards=n_shards), n)
    for s in range(n_shards)
  ]
  for b in range(n):
    joined = {
      name: np.concatenate([part[b][name] for part in parts])
      for name in whole[b]
    }
    assert_equal(joined, whole[b])


def test_every_row_is_seen_once_per_epoch_and_the_epochs_differ(
  prepared, config
):
  n, size = prepared.n_train_rows, config.batch_size
  batches = take(train_batches(prepared, config), -(-3 * n // size))
  rows = np.concatenate([batch["row"] for batch in batches])[: 3 * n]
  epochs = rows.reshape(3, n)
  for epoch in epochs:
    assert sorted(epoch) == list(range(n))
    assert (epoch != np.arange(n)).mean() > 0.9
  assert (epochs[0] != epochs[1]).mean() > 0.9
  assert (epochs[1] != epochs[2]).mean() > 0.9


def test_seeds_give_orders_that_are_not_one_epoch_apart(prepared, config):
  n, size = prepared.n_train_rows, config.batch_size
  orders = []
  for seed in (0, 1, 2**40):
    other = dataclasses.replace(config, seed=seed)
    batches = take(train_batches(prepared, other), -(-3 * n // size))
    rows = np.concatenate([batch["row"] for batch in batches])[: 3 * n]
    orders += [tuple(epoch) for epoch in rows.reshape(3, n)]
  assert len(set(orders)) == 9


@pytest.mark.parametrize("n_before,n_after", [(1, 1), (1, 4), (8, 2), (2, 8)])
@pytest.mark.parametrize("place", ["start", "mid epoch", "over the boundary"])
def test_resuming_goes_on_exactly_on_another_number_of_shards(
  prepared, config, n_before, n_after, place
):
  epoch = per_epoch(prepared, config)
  stop = {"start": 0, "mid epoch": epoch // 2, "over the boundary": epoch}
  stop = stop[place]
  whole = take(train_batches(prepared, config), stop + 4)
  before = train_batches(prepared, config, shard=0, n_shards=n_before)
  for _ in range(stop):
    next(before)
  state = json.loads(json.dumps(before.state()))
  assert state == {"batches": stop}
  before.close()
  parts = []
  for shard in range(n_after):
    after = train_batches(prepared, config, shard=shard, n_shards=n_after)
    after.restore(state)
    parts.append(take(after, 4))
    assert after.state() == {"batches": stop + 4}
  for b in range(4):
    joined = {
      name: np.concatenate([part[b][name] for part in parts])
      for name in whole[0]
    }
    assert_equal(joined, whole[stop + b])


def test_restore_goes_back_too(prepared, config):
  batches = train_batches(prepared, config)
  first = [next(batches) for _ in range(5)]
  batches.restore({"batches": 1})
  for expected in first[1:]:
    assert_equal(next(batches), expected)
  batches.close()


@pytest.mark.parametrize("prefetch", [0, 1, 7])
def test_reading_ahead_does_not_change_the_order(prepared, config, prefetch):
  other = dataclasses.replace(config, prefetch=prefetch)
  expected = take(train_batches(prepared, config), 9)
  for batch, same in zip(
    take(train_batches(prepared, other), 9), expected, strict=True
  ):
    assert_equal(batch, same)


def test_a_batch_has_the_documented_types_and_fields(prepared, config):
  (batch,) = take(train_batches(prepared, config, shard=1, n_shards=2), 1)
  for name in ("tokens", "targets", "segment_ids", "positions"):
    assert batch[name].shape == (4, 32) and batch[name].dtype == np.int32
  assert batch["weights"].shape == (4, 32)
  assert batch["weights"].dtype == np.float32
  assert (batch["weights"] == (batch["segment_ids"] > 0)).all()
  assert batch["example_ids"].tolist() == [4, 5, 6, 7]
  assert batch["example_ids"].dtype == np.int32
  assert batch["row"].dtype == np.int64
  for positions, segments in zip(
    batch["positions"], batch["segment_ids"], strict=True
  ):
    assert (positions == packing.positions(segments)).all()


@pytest.mark.parametrize("n_shards", [1, 4])
def test_every_held_out_row_comes_once_in_order_and_the_rest_weighs_nothing(
  prepared, config, n_shards
):
  parts = [
    list(heldout_batches(prepared, config, shard=s, n_shards=n_shards))
    for s in range(n_shards)
  ]
  rows = np.concatenate(
    [batch["row"] for batches in zip(*parts, strict=True) for batch in batches]
  )
  n = prepared.total("n_heldout_rows")
  assert n % config.batch_size
  assert rows[:n].tolist() == list(range(n)) and (rows[n:] == -1).all()
  assert len(rows) % config.batch_size == 0
  for batch in itertools.chain(*parts):
    assert (batch["weights"].sum(axis=1) > 0).tolist() == (
      batch["row"] >= 0
    ).tolist()


def test_held_out_rows_are_not_training_rows(prepared, config):
  def contents(batches):
    return {
      batch["targets"][i].tobytes()
      for batch in batches
      for i in range(len(batch["row"]))
      if batch["row"][i] >= 0
    }

  train = take(train_batches(prepared, config), per_epoch(prepared, config))
  assert not contents(train) & contents(heldout_batches(prepared, config))


def test_a_shard_reads_its_own_rows_only():
  read = []

  class Source:
    def __len__(self):
      return 64

    def __getitem__(self, row):
      read.append(row)
      return row, np.zeros((3, 4), "<i4").tobytes()

  batches = pipeline._batched(grain.MapDataset.source(Source()), 8, 1, 4)
  for i in range(len(batches)):
    assert batches[i]["row"].tolist() == [8 * i + 2, 8 * i + 3]
  assert sorted(read) == [r for r in range(64) if r % 8 in (2, 3)]


def test_a_batch_that_does_not_divide_is_refused(prepared, config):
  for make in (train_batches, heldout_batches):
    with pytest.raises(
      UserError, match=r"data.batch_size=8 is not a multiple of the 3 .* use 9"
    ):
      make(prepared, config, shard=0, n_shards=3)


def test_importing_the_pipeline_does_not_import_tensorflow():
  code = (
    "import sys, ablax.data.pipeline; assert 'tensorflow' not in sys.modules"
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
