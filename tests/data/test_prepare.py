"""Preparation: one split, one fingerprint, and a cache that is never half."""

import gzip
import lzma
import multiprocessing
import os
import pathlib
import shutil
from collections import Counter

import corpora
import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource

from ablax.data import cache, corpus
from ablax.data import prepare as prepare_module
from ablax.data.prepare import Prepared, prepare
from ablax.data.sources import Document
from ablax.data.sources.text import Options, Text
from ablax.data.texts import _limited
from ablax.data.tokenizers import TOKENIZERS
from ablax.data.tokenizers.bpe import BPE
from ablax.errors import UserError
from ablax.registry import Opts


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def texts(tmp_path):
  return corpora.write(tmp_path / "text")


def prepared_of(tmp_path, **overrides) -> Prepared:
  config = corpora.config(tmp_path / "text", **overrides)
  return prepare(config, progress=False)


def rows(prepared, side):
  (part,) = prepared.parts
  records = ArrayRecordDataSource(str(part.folder / f"{side}.array_record"))
  return [np.frombuffer(r, "<i4").reshape(3, -1) for r in records]


def documents(prepared, side):
  """Decodes a side's documents; pieces of long ones are joined in turn."""
  tokenizer = prepared.tokenizer
  wholes, cut = [], []
  for tokens, targets, segments in rows(prepared, side):
    for segment in range(1, segments.max() + 1):
      here = segments == segment
      cut.append((int(tokens[here][0]), targets[here].tolist()))
  # With T longer than each document a piece is a document.
  for first, targets in cut:
    assert first == tokenizer.bos_id and targets[-1] == tokenizer.eos_id
    wholes.append(tokenizer.decode(targets))
  return Counter(wholes)


def test_every_document_is_on_one_side_exactly_once(tmp_path, texts):
  prepared = prepared_of(tmp_path, seq_len=1024, batch_size=1)
  train, held = documents(prepared, "train"), documents(prepared, "heldout")
  assert train + held == Counter(texts)
  assert not set(train) & set(held) and held


def test_copies_of_a_document_are_on_the_same_side(tmp_path, texts):
  for i, text in enumerate(texts):
    (tmp_path / "text" / f"copy{i}.txt").write_text(text)
  prepared = prepared_of(
    tmp_path, seq_len=1024, batch_size=1, heldout_bytes=2000
  )
  train, held = documents(prepared, "train"), documents(prepared, "heldout")
  assert train + held == Counter(texts * 2)
  assert not set(train) & set(held)


def test_the_split_depends_on_the_texts_not_on_names_or_seed(tmp_path, texts):
  held = documents(prepared_of(tmp_path, seq_len=1024, batch_size=1), "heldout")
  shutil.rmtree(tmp_path / "text")
  (tmp_path / "text").mkdir()
  for i, text in enumerate(reversed(texts)):
    (tmp_path / "text" / f"other{i}.md").write_text(text)
  again = prepared_of(tmp_path, seq_len=1024, batch_size=1, seed=9)
  assert documents(again, "heldout") == held


def test_the_tokenizer_never_sees_held_out_documents(
  tmp_path, texts, monkeypatch
):
  seen = []
  train = BPE.train.__func__

  def spy(cls, sample, *args):
    sample = list(sample)
    seen.extend(sample)
    return train(cls, sample, *args)

  monkeypatch.setattr(BPE, "train", classmethod(spy))
  prepared = prepared_of(
    tmp_path,
    tokenizer="bpe",
    seq_len=1024,
    batch_size=1,
    tokenizer_bytes=10**6,
  )
  train_texts, held = (
    documents(prepared, side) for side in ("train", "heldout")
  )
  assert Counter(seen) == train_texts
  assert held and not set(seen) & set(held)


def test_the_tokenizer_sample_is_spread_over_the_documents(tmp_path, texts):
  config = corpora.config(tmp_path / "text", tokenizer_bytes=2000)
  sample = list(corpus.Corpus(config).tokenizer_sample())
  everything = list(
    corpus.Corpus(
      corpora.config(tmp_path / "text", tokenizer_bytes=10**6)
    ).tokenizer_sample()
  )
  places = [everything.index(text) for text in sample]
  assert len(places) > 5 and max(np.diff(places)) - min(np.diff(places)) <= 1
  assert abs(sum(map(len, sample)) - 2000) < 500


def test_what_was_measured_is_what_is_there(tmp_path, texts):
  prepared = prepared_of(tmp_path, seq_len=1024, batch_size=1)
  train, held = documents(prepared, "train"), documents(prepared, "heldout")
  train_rows = rows(prepared, "train")
  assert prepared.n_train_rows == len(train_rows)
  assert prepared.total("n_heldout_rows") == len(rows(prepared, "heldout"))
  n_bytes = sum(len(t.encode()) * n for t, n in train.items())
  assert prepared.total("train_bytes") == n_bytes
  assert prepared.total("train_tokens") == n_bytes + train.total()
  assert prepared.bytes_per_token == 1.0
  assert prepared.fill == np.mean([row[2] > 0 for row in train_rows])
  utf8 = "".join(t for t in texts if t in held).encode()
  assert prepared.heldout_bytes == len(utf8)
  assert prepared.gzip_bits_per_byte == (
    8 * len(gzip.compress(utf8, 9)) / len(utf8)
  )
  assert prepared.xz_bits_per_byte == (
    8 * len(lzma.compress(utf8, preset=9)) / len(utf8)
  )


def test_the_second_preparation_comes_from_the_cache(
  tmp_path, texts, monkeypatch
):
  first = prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  monkeypatch.setattr(
    prepare_module._Packing, "_write_both", lambda *args: 1 / 0
  )
  monkeypatch.setattr(BPE, "train", classmethod(lambda *args: 1 / 0))
  second = prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  for name in Prepared.__dataclass_fields__:
    if name != "tokenizer":
      assert getattr(first, name) == getattr(second, name)
  assert first.tokenizer.fingerprint == second.tokenizer.fingerprint


def test_the_fingerprint_changes_with_content_and_options(tmp_path, texts):
  def fingerprint(**overrides):
    return prepared_of(tmp_path, **{"batch_size": 1} | overrides).fingerprint

  digits = TOKENIZERS.options("bpe")(split_digits=True)
  text = Options((str(tmp_path / "text"),))
  first = fingerprint()
  assert fingerprint(seed=5, prefetch=0, batch_size=2) == first
  others = [
    fingerprint(tokenizer="bpe"),
    fingerprint(tokenizer="bpe", vocab_size=301),
    fingerprint(tokenizer="bpe", tokenizer_bytes=2000),
    fingerprint(seq_len=33),
    fingerprint(heldout_bytes=1500),
    fingerprint(max_bytes=5000),
    fingerprint(tokenizer="bpe", opts=Opts({"text": text, "bpe": digits})),
    fingerprint(opts=Opts({"text": Options(text.paths, documents="line")})),
  ]
  (tmp_path / "text" / "000.txt").write_text("something else\n")
  others.append(fingerprint())
  assert len({first, *others}) == 1 + len(others)


def test_max_bytes_takes_that_much_text(tmp_path, texts):
  prepared = prepared_of(tmp_path, max_bytes=5000, batch_size=1)
  assert prepared.total("train_bytes") + prepared.heldout_bytes == 5000


def test_max_bytes_does_not_cut_a_character(tmp_path):
  read = _limited([Document("a", "aé"), Document("b", "ü")], 2)
  assert list(read) == [("a", "a")]


@pytest.mark.parametrize("file", ["train.array_record", "meta.json"])
def test_a_truncated_cache_is_built_again(tmp_path, texts, file):
  first = prepared_of(tmp_path)
  whole = (first.parts[0].folder / file).read_bytes()
  (first.parts[0].folder / file).write_bytes(whole[: len(whole) // 2])
  assert prepared_of(tmp_path).parts[0].folder == first.parts[0].folder
  assert (first.parts[0].folder / file).read_bytes() == whole


def test_a_truncated_tokenizer_is_trained_again(tmp_path, texts, cache_folder):
  first = prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  (model,) = cache_folder.glob("tokenizers/*/*.model")
  model.write_bytes(model.read_bytes()[:100])
  again = prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  assert again.tokenizer.fingerprint == first.tokenizer.fingerprint


def test_a_preparation_that_dies_leaves_nothing(
  tmp_path, texts, cache_folder, monkeypatch
):
  def die(*args):
    (args[-1] / "train.array_record").write_bytes(b"half")
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(prepare_module._Packing, "_write_both", die)
    with pytest.raises(KeyboardInterrupt):
      prepared_of(tmp_path)
  assert not list(cache_folder.glob("packed/*"))
  assert not list(cache_folder.glob("packed/.*"))
  prepared_of(tmp_path)


def test_the_second_of_two_at_once_keeps_what_the_first_has_built(tmp_path):
  folder = tmp_path / "cache" / "x"

  def build(new):
    (new / "a").write_text("slow")
    cache.cached(folder, lambda new: (new / "a").write_text("first") and None)

  cache.cached(folder, build)
  assert (folder / "a").read_text() == "first"
  assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_what_the_dead_have_left_is_removed_and_what_lives_is_not(tmp_path):
  dead = tmp_path / "cache" / ".other.123.unfinished"
  dead.mkdir(parents=True)
  (dead / "a").write_text("half")

  def build(new):
    assert not dead.exists()
    (new / "a").write_text("whole")
    os.utime(new, (0, 0))  # as if it was at work for long
    cache.cached(tmp_path / "cache" / "y", lambda _: None)
    assert (new / "a").exists()

  cache.cached(tmp_path / "cache" / "x", build)
  dead.mkdir()
  cache.cached(tmp_path / "cache" / "x", lambda _: 1 / 0)  # it is there
  assert not dead.exists()


def _prepare_in_a_process(folder, queue):
  config = corpora.config(pathlib.Path(folder), tokenizer="bpe", batch_size=1)
  queue.put(prepare(config, progress=False).fingerprint)


@pytest.mark.slow
def test_two_processes_at_once_both_end_well(tmp_path, texts):
  context = multiprocessing.get_context("spawn")
  queue = context.Queue()
  processes = [
    context.Process(
      target=_prepare_in_a_process, args=(str(tmp_path / "text"), queue)
    )
    for _ in range(3)
  ]
  for process in processes:
    process.start()
  fingerprints = {queue.get(timeout=60) for _ in processes}
  for process in processes:
    process.join()
  assert len(fingerprints) == 1


def test_progress_is_shown_only_where_asked(tmp_path, texts, capfd):
  prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  assert capfd.readouterr() == ("", "")
  config = corpora.config(tmp_path / "text", seq_len=31)
  prepare(config, progress=True)
  assert capfd.readouterr().out == ""


def test_each_pass_over_the_text_has_a_bar(tmp_path, texts, capfd, monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  config = corpora.config(tmp_path / "text", tokenizer="bpe", batch_size=1)
  prepare(config, progress=True)
  out, err = capfd.readouterr()
  assert not out
  for what in ("reading text", "training the tokenizer", "packing text"):
    assert what in err


def refused(tmp_path, **overrides):
  with pytest.raises(UserError) as caught:
    prepared_of(tmp_path, **overrides)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_no_text_is_refused(tmp_path):
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "a.txt").write_text("")
  assert "data.source='text' gives no text" in refused(tmp_path)


def test_one_document_is_refused_with_a_way_out(tmp_path):
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "a.txt").write_text("one\n\ntwo\n" * 999)
  message = refused(tmp_path)
  assert "gives 1 document" in message
  assert "data.opts.text.documents='paragraph'" in message


def test_holding_out_more_than_half_is_refused_with_a_value_that_works(
  tmp_path, texts
):
  message = refused(tmp_path, heldout_bytes=10**6)
  assert "data.heldout_bytes=1000000 would hold out" in message
  value = int(message.split("set it to ")[1].split()[0])
  prepared_of(tmp_path, heldout_bytes=value)


def test_one_big_document_does_not_swallow_the_held_out_side():
  sizes = Counter({b"a": 5000, b"b": 90, b"c": 20, b"d": 4000})
  assert corpus.heldout(sizes, 100) == {b"b", b"c"}
  assert corpus.heldout(Counter({b"a": 5000, b"b": 900}), 100) == {b"b"}


def test_fewer_rows_than_a_batch_is_refused(tmp_path, texts):
  message = refused(tmp_path, batch_size=5000)
  assert "data.batch_size=5000 is more than the" in message
  assert "rows of data.seq_len=32" in message


def test_a_source_may_be_seen_as_often_as_is_allowed_and_not_more(
  tmp_path, texts
):
  folder = tmp_path / "text"
  mixture = ((f"text:{folder}", 1.0, 2.0),)
  prepared = prepared_of(tmp_path, mixture=mixture, opts=Opts())
  n_rows = 2 * prepared.n_train_rows
  prepared.check_epochs(n_rows)
  with pytest.raises(UserError, match=r"runs dry: .* 2 are allowed"):
    prepared.check_epochs(n_rows + 1)


def test_another_share_of_the_text_is_another_tokenizer(tmp_path):
  def folder(**overrides):
    for i in range(2):
      corpora.write(tmp_path / f"t{i}", n=40, seed=i)
    config = corpora.config(
      tmp_path,
      mixture=tuple((f"text:{tmp_path}/t{i}", 1.0 + i, 0.0) for i in range(2)),
      opts=Opts(),
      tokenizer="bpe",
      **overrides,
    )
    return prepare_module.tokenizer_folder(config, corpus.Corpus(config))

  assert folder() == folder(seed=1) != folder(temperature=5.0)


def test_a_lone_surrogate_is_told_with_its_document(tmp_path):
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "a.jsonl").write_text('{"text": "x\\ud800"}\n')
  message = refused(tmp_path)
  assert "a.jsonl#1 holds the lone surrogate U+D800" in message


def test_documents_that_change_meanwhile_are_noticed(tmp_path, texts):
  read = corpus.Corpus(corpora.config(tmp_path / "text"))
  (tmp_path / "text" / "039.txt").write_text("new")
  with pytest.raises(UserError, match="changed while"):
    list(read.train("packing"))


def test_the_text_is_read_for_hashes_the_tokenizer_and_the_rows(
  tmp_path, texts, monkeypatch
):
  read = []
  documents = Text.documents

  def spy(self):
    read.append(1)
    return documents(self)

  monkeypatch.setattr(Text, "documents", spy)
  prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  assert len(read) == 3
  prepared_of(tmp_path, tokenizer="bpe", batch_size=1)
  assert len(read) == 4
