"""Mixtures: shares, epochs, one order, and sources named in one word."""

import dataclasses
import itertools
import json

import corpora
import numpy as np
import pytest

from ablax.configs import base
from ablax.data.corpus import Corpus
from ablax.data.mixture import shares
from ablax.data.pipeline import heldout_batches, train_batches
from ablax.data.prepare import prepare
from ablax.data.sources.text import Options
from ablax.errors import UserError
from ablax.registry import Opts
from ablax.train.config import from_dict, resolve

PROVES = ("feature:mixture",)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))


def mixed(tmp_path, *weights, epochs=0.0, **overrides):
  """A config of as many sources, each with its own texts."""
  mixture = []
  for i, weight in enumerate(weights):
    folder = tmp_path / f"text{i}"
    corpora.write(folder, n=40 * (i + 1), seed=i)
    mixture.append((f"text:{folder}", weight, epochs))
  values = {"mixture": tuple(mixture), "opts": Opts()}
  return corpora.config(tmp_path, **values | overrides)


def rows_of(prepared, config, n, **shard):
  batches = train_batches(prepared, config, **shard)
  rows = np.concatenate([b["row"] for b in itertools.islice(batches, n)])
  batches.close()
  return rows


def counts(prepared, rows):
  borders = np.cumsum([part.n_train_rows for part in prepared.parts])
  return np.bincount(np.searchsorted(borders, rows, side="right"))


def test_each_source_has_its_share_of_the_rows_at_any_time(tmp_path):
  config = mixed(tmp_path, 1.0, 3.0, 4.0)
  prepared = prepare(config, progress=False)
  assert [part.share for part in prepared.parts] == [1 / 8, 3 / 8, 1 / 2]
  rows = rows_of(prepared, config, 30)
  for n in range(8, len(rows), 8):
    # No more than a row away. Grain counts in hundredths of the least share:
    # those that are no whole number of them drift (5 rows of 2000 were seen).
    assert (
      abs(counts(prepared, rows[:n]) - n * np.array([1, 3, 4]) / 8).max() <= 1
    )


def test_each_source_goes_through_all_its_rows_before_it_repeats_one(tmp_path):
  config = mixed(tmp_path, 2.0, 1.0)
  prepared = prepare(config, progress=False)
  first = prepared.parts[0].n_train_rows
  rows = rows_of(prepared, config, 3 * prepared.n_train_rows // 8)
  for lowest, highest in ((0, first), (first, prepared.n_train_rows)):
    here = rows[(rows >= lowest) & (rows < highest)]
    n = highest - lowest
    assert len(here) > n
    epochs = [here[i : i + n] for i in range(0, len(here) - n + 1, n)]
    for epoch in epochs:
      assert sorted(epoch) == list(range(lowest, highest))
    assert len(epochs) < 2 or (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("n_shards", [2, 8])
def test_shards_and_a_resume_see_the_mixture_of_one_host(tmp_path, n_shards):
  config = mixed(tmp_path, 1.0, 2.5)
  prepared = prepare(config, progress=False)
  whole = rows_of(prepared, config, 12).reshape(12, -1)
  parts = [
    rows_of(prepared, config, 12, shard=s, n_shards=n_shards).reshape(12, -1)
    for s in range(n_shards)
  ]
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
  stream = train_batches(prepared, config)
  for _ in range(5):
    next(stream)
  again = train_batches(prepared, config)
  again.restore(stream.state())
  for want in whole[5:]:
    np.testing.assert_array_equal(next(again)["row"], want)
  stream.close()
  again.close()


def test_shares_by_hand(tmp_path):
  def of(*weights, **overrides):
    return shares(mixed(tmp_path, *weights, **overrides), [100, 900])

  assert of(1.0, 1.0) == (0.5, 0.5)
  natural = of(1.0, 1.0, balance="epochs")
  assert natural == pytest.approx((0.1, 0.9), abs=1e-12)
  assert of(9.0, 1.0, balance="epochs") == (0.5, 0.5)
  # Square roots of 1 and 9 are 1 and 3.
  even = of(1.0, 1.0, balance="epochs", temperature=2.0)
  assert even == pytest.approx((1 / 4, 3 / 4), abs=1e-12)
  assert of(1.0, 9.0, temperature=1e6) == pytest.approx((0.5, 0.5), abs=1e-5)
  assert of(1.0, 9.0, temperature=0.1)[0] == pytest.approx(9**-10, rel=1e-6)


def test_a_weight_of_zero_leaves_a_source_out(tmp_path):
  config = mixed(tmp_path, 1.0, 0.0)
  prepared = prepare(config, progress=False)
  assert [part.name for part in prepared.parts] == [config.mixture[0][0]]


def test_other_weights_keep_the_packed_rows(tmp_path):
  one, two = (
    prepare(mixed(tmp_path, *weights), progress=False)
    for weights in ((1.0, 2.0), (2.0, 1.0))
  )
  assert [p.folder for p in one.parts] == [p.folder for p in two.parts]
  assert one.fingerprint != two.fingerprint


def test_held_out_texts_are_of_every_source_and_in_none(tmp_path):
  config = mixed(tmp_path, 1.0, 1.0, seq_len=1024, batch_size=1)
  # A document of the second source is in the first one too.
  for i in range(80):
    text = (tmp_path / "text1" / f"{i:03}.txt").read_text()
    (tmp_path / "text0" / f"copy{i:03}.txt").write_text(text)
  prepared = prepare(config, progress=False)

  def contents(batches):
    return {
      row[segment == n].tobytes()
      for batch in batches
      for row, segment in zip(
        batch["targets"], batch["segment_ids"], strict=True
      )
      for n in range(1, segment.max() + 1)
    }

  held = [contents(heldout_batches(prepared, config, part=i)) for i in range(2)]
  train = contents(
    itertools.islice(train_batches(prepared, config), 4 * prepared.n_train_rows)
  )
  assert all(held) and not (held[0] | held[1]) & train
  assert len(train | held[0] | held[1]) == 120


def test_a_source_that_runs_dry_is_told_before_the_training(tmp_path):
  config = mixed(tmp_path, 1.0, 1.0, epochs=2.0)
  prepared = prepare(config, progress=False)
  rows = prepared.parts[0].n_train_rows
  prepared.check_epochs(4 * rows)
  with pytest.raises(UserError) as caught:
    prepared.check_epochs(5 * rows)
  message = str(caught.value)
  assert f"{config.mixture[0][0]!r} runs dry" in message
  assert f"are 2.50 epochs of its {rows} rows, and 2 are allowed" in message


@pytest.mark.parametrize(
  ("mixture", "message"),
  [
    ((("stdlib", -1.0, 0.0),), "'stdlib' has weight -1.0"),
    ((("stdlib", 1.0, -2.0),), "epochs -2.0; neither may be negative"),
    ((("stdlib", 0.0, 0.0),), "gives no source a weight above 0"),
    ((), "gives no source a weight above 0"),
    ((("stdlib", 1.0, 0.0),) * 2, "names 'stdlib' twice"),
    ((("stdlib:x", 1.0, 0.0),), "takes nothing behind a colon: write stdlib"),
    ((("text:", 1.0, 0.0),), "has nothing behind the colon"),
    ((("stdlip", 1.0, 0.0),), "did you mean 'stdlib'?"),
  ],
)
def test_a_mixture_without_meaning_is_refused(tmp_path, mixture, message):
  with pytest.raises(UserError) as caught:
    corpora.config(tmp_path, mixture=mixture)
  assert message in str(caught.value)


def test_an_argument_and_its_option_are_not_both_set(tmp_path):
  opts = Opts({"text": Options(("a",))})
  with pytest.raises(UserError, match="are both set; keep one"):
    corpora.config(tmp_path, mixture=(("text:b", 1.0, 0.0),), opts=opts)


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"balance": "x"}])
def test_a_balance_without_meaning_is_refused(tmp_path, change):
  with pytest.raises(UserError, match=f"data.{next(iter(change))}="):
    corpora.config(tmp_path, **change)


def resolved(mixture, **options):
  overrides = {"data.mixture": mixture, "data.heldout_bytes": 500}
  overrides |= {f"data.opts.{key}": value for key, value in options.items()}
  return resolve(base.get_config(), overrides)


def fields(tmp_path, *columns):
  """A folder with a JSON Lines file whose columns hold different texts."""
  folder = tmp_path / "rows"
  texts = {
    column: corpora.write(tmp_path / column, seed=i)
    for i, column in enumerate(columns)
  }
  folder.mkdir()
  with (folder / "a.jsonl").open("w") as file:
    for row in zip(*texts.values(), strict=True):
      file.write(json.dumps(dict(zip(texts, row, strict=True))) + "\n")
  return folder, texts


def test_a_part_has_options_of_its_own_over_those_of_all(tmp_path):
  folder, texts = fields(tmp_path, "body", "title")
  row = (f"text:{folder}", 1.0, 0.0)
  mixture = (row, (*row, {"column": "title"}))
  config = resolved(mixture, **{"text.column": "body"})
  names = [f"text:{folder}", f"text:{folder}(column=title)"]
  assert [part.name for part in config.data.parts] == names
  corpus = Corpus(config.data)
  for i, column in enumerate(("body", "title")):
    both = [*corpus.train("a", i), *corpus.heldout("b", i)]
    assert sorted(text.text for text in both) == sorted(texts[column])
  prepared = prepare(
    dataclasses.replace(config.data, seq_len=32, tokenizer="bytes"),
    progress=False,
  )
  assert [part.name for part in prepared.parts] == names
  assert len({part.folder for part in prepared.parts}) == 2


def test_options_of_a_part_are_in_the_hash_and_come_back_from_json(tmp_path):
  plain, empty, line = (
    resolved(((f"text:{tmp_path}", 1.0, 0.0, *own),))
    for own in ((), ({},), ({"documents": "line"},))
  )
  assert plain == empty and plain.hash == empty.hash != line.hash
  assert hash(line.data) == hash(line.data)
  again = from_dict(json.loads(json.dumps(line.as_dict())))
  assert again == line and again.hash == line.hash
  # As on a command line; a,b is short for ("a", "b"), as in any option.
  said = "(('text', 1, 0, {'paths': 'a,b'}),)"
  assert resolved(said).data.parts[0].options == Options(("a", "b"))


@pytest.mark.parametrize(
  ("own", "message"),
  [
    ({"colum": "x"}, "colum is not an option; did you mean 'column'?"),
    ({"column": 3}, "column=3 has the wrong type: it must be a text"),
    ({"documents": "lines"}, "did you mean 'line'?"),
    ({"paths": ("a",)}, "are both set; keep one"),
    (("column", "x"), "must have 3 elements, like ('stdlib', 1.0, 0.0), and"),
  ],
)
def test_options_of_a_part_are_checked_as_any_are(own, message):
  with pytest.raises(UserError) as caught:
    resolved((("text:b", 1.0, 0.0, own),))
  assert message in str(caught.value)
  assert "\n" not in str(caught.value)


def test_the_same_part_with_the_same_options_is_refused():
  row = ("text:b", 1.0, 0.0, {"documents": "line"})
  with pytest.raises(UserError, match=r"'text:b\(documents=line\)' twice"):
    resolved((row, row))


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    (
      "data.mixture",
      (("stdlib", 1.0),),
      "data.mixture: ('stdlib', 1.0) must have 3 elements, like"
      " ('stdlib', 1.0, 0.0), and may end with a dict of options",
    ),
    (
      "opt.lr_rules",
      ((".*", 1.0, {}),),
      "opt.lr_rules: ('.*', 1.0, {}) must have 2 elements, like ('.*', 1.0)",
    ),
  ],
)
def test_a_record_of_another_length_is_told_as_such(key, value, message):
  with pytest.raises(UserError) as caught:
    resolve(base.get_config(), {key: value})
  assert str(caught.value) == message


@pytest.mark.parametrize("way", ["override", "file"])
def test_options_of_all_reach_two_parts_of_one_source(way):
  config = base.get_config()
  config.data.mixture = (("text:a", 1.0, 0.0), ("text:b", 1.0, 0.0))
  overrides = {}
  if way == "file":
    config.data.opts.text = {"documents": "line"}
  else:
    overrides = {"data.opts.text.documents": "line"}
  parts = resolve(config, overrides).data.parts
  assert [part.options.documents for part in parts] == ["line", "line"]
