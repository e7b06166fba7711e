"""Cleaning of a whole corpus: passes, decisions, and what is left."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from collections import Counter

import corpora
import pytest

from ablax.data import clean as clean_module
from ablax.data import texts as texts_module
from ablax.data.cache import root
from ablax.data.clean import clean, make_steps
from ablax.data.cleaning import CLEANERS, Verdict, exact
from ablax.data.corpus import Corpus
from ablax.data.passes import passes
from ablax.data.prepare import pack_corpus, prepare
from ablax.data.report import report
from ablax.data.sources import Document
from ablax.data.texts import listed
from ablax.errors import UserError
from ablax.registry import Opts

PROVES = ("feature:prepare",)


class Short:
  """Drops what is shorter than five letters, and notes what it begins with."""

  def __init__(self, options=None):
    del options

  def judge(self, texts):
    return [
      Verdict("short" if len(text) < 5 else "", text[:1]) for text in texts
    ]


class Rude:
  """Drops texts that say so."""

  def __init__(self, options=None):
    del options

  def judge(self, texts):
    return [Verdict("rude" if "rude" in text else "") for text in texts]


class Twins:
  """Texts of equal letters, whatever their order, are duplicates."""

  reason = "twin"

  def __init__(self, options=None):
    del options

  def sign(self, texts):
    return ["".join(sorted(text)).encode() for text in texts]

  def keys(self, signature):
    return [signature]

  def same(self, first, later):
    return first == later


@pytest.fixture(autouse=True)
def steps(monkeypatch, tmp_path):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  registered = {"short": Short, "rude": Rude, "twins": Twins}
  monkeypatch.setattr(CLEANERS, "_registered", registered)


TEXTS = ["hello rude", "tiny", "olleh", "hello", "ynit!", "abcde", "edcba rude"]


def decide(names, texts=TEXTS, **overrides):
  config = corpora.config(pathlib.Path("x"), clean=names, **overrides)
  read = list(texts_module.read(Document(t, t) for t in texts))
  steps, facts = make_steps(config)
  assert facts == {}
  return clean(config, steps, lambda: iter(read), listed(read))


def test_filters_drop_and_note_each_document_by_itself():
  found = decide(("short", "rude"))
  assert found.reasons == ["rude", "short", "", "", "", "", "rude"]
  assert found.notes == ["h", "t", "o", "h", "y", "a", "e"]
  assert found.samples["short"] == [{"document": 1, "text": "tiny"}]


def test_the_first_of_the_twins_is_kept_and_named():
  found = decide(("twins",), ["abc", "x", "bca", "cab"])
  assert found.reasons == ["", "", "twin", "twin"]
  assert found.samples["twin"][0] == {
    "document": 2,
    "text": "bca",
    "of": 0,
  }


def test_what_a_filter_drops_is_nobodys_first():
  # "hello rude" would be the first of "rude hello".
  texts = ["hello rude", "rude hello", "olleh", "hello"]
  assert decide(("rude", "twins"), texts).reasons == [
    "rude",
    "rude",
    "",
    "twin",
  ]
  assert decide(("twins", "rude"), texts).reasons == [
    "rude",
    "twin",
    "",
    "twin",
  ]


def test_steps_are_grouped_into_as_few_passes_as_can_be():
  def shape(*names):
    return [
      (len(p.filters), bool(p.dedup))
      for p in passes([CLEANERS[n](None) for n in names])
    ]

  assert shape("short", "rude") == [(2, False)]
  assert shape("short", "twins", "rude") == [(1, True), (1, False)]
  assert shape("twins", "twins") == [(0, True), (0, True)]


def test_batches_change_nothing(monkeypatch):
  whole = decide(("short", "twins", "rude"))
  monkeypatch.setattr("ablax.data.texts._BATCH", 1)
  monkeypatch.setenv("ABLAX_CACHE", os.environ["ABLAX_CACHE"] + "2")
  again = decide(("short", "twins", "rude"))
  assert (whole.reasons, whole.notes) == (again.reasons, again.notes)
  assert whole.samples == again.samples


def test_a_killed_cleaning_goes_on_where_it_was(monkeypatch):
  monkeypatch.setattr("ablax.data.texts._BATCH", 1)
  judged = []
  judge = Short.judge

  def spy(self, texts):
    judged.extend(texts)
    if len(judged) == 4:
      raise KeyboardInterrupt
    return judge(self, texts)

  monkeypatch.setattr(Short, "judge", spy)
  with pytest.raises(KeyboardInterrupt):
    decide(("short",))
  found = decide(("short",))
  assert judged == [*TEXTS[:4], *TEXTS[3:]]
  assert found.reasons.count("short") == 1
  # And nothing is left of the unfinished work.
  assert not list((root() / "work").iterdir())


def test_decisions_come_from_the_cache(monkeypatch):
  first = decide(("short",))
  monkeypatch.setattr(clean_module, "_decide", lambda *args: 1 / 0)
  assert decide(("short",)) == first
  with pytest.raises(ZeroDivisionError):
    decide(("short",), TEXTS[1:])


def test_decisions_are_made_anew_for_other_options_files_and_steps(
  monkeypatch, tmp_path
):
  asked = []
  monkeypatch.setattr(clean_module, "_decide", lambda *args: asked.append(1))
  module = tmp_path / "plugin.py"
  module.write_text("one")
  plugin = types.SimpleNamespace(__file__=str(module))
  monkeypatch.setattr(type(CLEANERS), "module", lambda self, name: plugin)

  def is_new(**overrides):
    before = len(asked)
    decide(("short",), **overrides)
    return len(asked) > before

  assert is_new() and not is_new()
  assert is_new(opts=Opts({"short": exact.Options("loose")}))
  # The hash of what it reads, as the lists of words are.
  monkeypatch.setattr(Short, "fingerprint", "of a file", raising=False)
  assert is_new() and not is_new()
  module.write_text("two")
  assert is_new() and not is_new()


def test_a_report_counts_each_source_and_each_note_by_itself(tmp_path):
  for name, rude, kept in (("a", 3, "yes"), ("b", 5, "zoo")):
    folder = tmp_path / name
    folder.mkdir()
    for i in range(20):
      (folder / f"{i}.txt").write_text(f"{kept} {name} {i} " * 5)
    for i in range(rude):
      (folder / f"rude{i}.txt").write_text(f"rude {name} {i}")
  config = corpora.config(
    tmp_path,
    mixture=tuple((f"text:{tmp_path / n}", 1.0, 0.0) for n in "ab"),
    opts=Opts(),
    clean=("short", "rude"),
    heldout_bytes=100,
    batch_size=1,
  )
  corpus = Corpus(config)
  found = report(config, corpus, pack_corpus(config, corpus), n_rows=1)
  sources = found["sources"]
  assert [s["dropped_documents"] for s in sources] == [3, 5]
  assert [s["dropped_bytes"] for s in sources] == [3 * 8, 5 * 8]
  counted = {
    note: (counts["documents"], counts["kept"])
    for note, counts in found["notes"].items()
  }
  assert counted == {"y": (20, 20), "z": (20, 20), "r": (8, 0)}


def test_only_what_is_kept_is_split_and_packed(tmp_path):
  texts = corpora.write(tmp_path / "text", n=40)
  for i in range(5):
    (tmp_path / "text" / f"rude{i}.txt").write_text(f"a rude text {i} " * 9)
    (tmp_path / "text" / f"zz{i}.txt").write_text(texts[i])
  config = corpora.config(
    tmp_path / "text", clean=("rude", "twins"), heldout_bytes=500
  )
  corpus = Corpus(config)
  kept = Counter(
    t.text for side in (corpus.train, corpus.heldout) for t in side("")
  )
  assert kept == Counter(texts)
  prepared = pack_corpus(config, corpus)
  found = report(config, corpus, prepared, n_rows=100)
  assert found["dropped"] == {
    "rude": {"documents": 5, "bytes": 5 * 9 * 14},
    "twin": {
      "documents": 5,
      "bytes": sum(len(text) for text in texts[:5]),
    },
  }
  (source,) = found["sources"]
  assert source["documents"] == 50 and source["dropped_documents"] == 10
  assert source["train_bytes"] + source["heldout_bytes"] == sum(map(len, texts))
  assert source["epochs"] == 100 / prepared.n_train_rows
  json.dumps(found)


def test_cleaning_away_everything_is_refused(tmp_path):
  (tmp_path / "text").mkdir()
  for i in range(9):
    (tmp_path / "text" / f"{i}.txt").write_text(f"rude {i}")
  (tmp_path / "text" / "a.txt").write_text("tiny")
  with pytest.raises(UserError) as caught:
    prepare(corpora.config(tmp_path / "text", clean=("short", "rude")))
  message = str(caught.value)
  assert "drops every document of 'text': 9 as 'rude' (the first: " in message
  assert "0.txt), 1 as 'short' (the first: " in message
  assert "\n" not in message


COMMAND = [
  sys.executable,
  "-m",
  "ablax.prepare",
  "--config=configs/lm/tiny.py",
  # English, Chinese and code.
  "--config.data.mixture=(('tfds:enwiki_excerpt', 2.0, 0.0),"
  "('tfds:three_kingdoms', 1.0, 0.0), ('stdlib', 1.0, 0.0))",
  "--config.data.clean=exact,gopher,minhash",
  "--config.data.tokenizer=bpe",
  "--config.data.tokenizer_bytes=1e6",
  "--config.data.max_bytes=5e6",
  "--config.data.heldout_bytes=100_000",
  "--workers=2",
]


def contents(cache):
  return {
    file.relative_to(cache): file.read_bytes()
    for folder in ("cleaned", "packed", "tokenizers")
    for file in (cache / folder).rglob("*")
    if file.is_file()
  }


@pytest.mark.slow
def test_a_preparation_killed_half_way_gives_the_same_bytes(tmp_path):
  caches = [tmp_path / "whole", tmp_path / "killed"]
  environments = [os.environ | {"ABLAX_CACHE": str(cache)} for cache in caches]
  subprocess.run(COMMAND, env=environments[0], check=True, capture_output=True)
  for stage in ("clean-", "encode-"):
    child = subprocess.Popen(
      COMMAND, env=environments[1], stdout=subprocess.DEVNULL
    )
    while not list(caches[1].glob(f"work/{stage}*/*/0000001.arrow")):
      assert child.poll() is None, "it ended before it could be killed"
      time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
  subprocess.run(COMMAND, env=environments[1], check=True, capture_output=True)
  whole, killed = map(contents, caches)
  assert len(whole) > 5 and whole == killed
  assert not list((caches[1] / "work").iterdir())
