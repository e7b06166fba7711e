"""Cleaning by Apache Beam: the decisions of one process."""

import dataclasses

import corpora
import pytest

from ablax.data.beam import Beam, readers
from ablax.data.cleaning import CLEANERS, Verdict, gopher
from ablax.data.corpus import Corpus
from ablax.data.sources import SOURCES
from ablax.errors import UserError
from ablax.registry import Opts

beam = pytest.importorskip("apache_beam")

PROVES = ("feature:beam",)

FLAGS = "--runner=DirectRunner --direct_num_workers=1"
# Three passes: the last one is of a filter, what duplicates leave.
STEPS = ("exact", "minhash", "gopher")
LENGTH_ALONE = gopher.Options(
  off=tuple(n for n in gopher.names(gopher.Options()) if n != "few words"),
  min_words=60,
)


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "one"))
  texts = corpora.write(tmp_path / "text", n=20, longest=300)
  for i, text in enumerate(texts[:8]):
    near = text.replace("reads one token", "sees one token")
    (tmp_path / "text" / f"near{i}.txt").write_text(near)
    (tmp_path / "text" / f"same{i}.txt").write_text(text)
  corpora.write(tmp_path / "more", n=20, longest=300, seed=1)
  copy = tmp_path / "more" / "000.txt"
  copy.write_text(texts[3])
  return corpora.config(
    tmp_path,
    mixture=tuple((f"text:{tmp_path / n}", 1.0, 0.0) for n in ("text", "more")),
    opts=Opts({"gopher": LENGTH_ALONE}),
    clean=STEPS,
    heldout_bytes=200,
  )


def test_beam_decides_as_one_process_does(config, tmp_path, monkeypatch):
  local = Corpus(config)
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "beam"))
  by_beam = Corpus(config, beam=FLAGS)
  reasons = set(local.cleaning.reasons)
  assert reasons == {
    "exact duplicate",
    "near duplicate",
    "gopher: few words",
    "",
  }
  assert by_beam.cleaning == local.cleaning
  assert by_beam.fingerprints == local.fingerprints


class Noted:
  """Notes how a document ends, and drops nothing."""

  def __init__(self, options=None):
    del options

  def judge(self, texts):
    return [Verdict("", f"ends in {text.split()[-1]}") for text in texts]


def test_beam_keeps_notes_and_counts_documents_without_text(
  config, tmp_path, monkeypatch
):
  monkeypatch.setattr(CLEANERS, "_registered", {"noted": Noted})
  (tmp_path / "more" / "0.jsonl").write_text('{"text": null}\n')
  config = dataclasses.replace(config, clean=("exact", "noted"))
  local = Corpus(config)
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "beam"))
  # This process reads nothing before it packs.
  monkeypatch.setattr(Corpus, "_read", lambda *args: 1 / 0)
  by_beam = Corpus(config, beam=FLAGS)
  assert len(set(local.cleaning.notes)) > 5
  assert "empty" in local.cleaning.reasons
  assert by_beam.cleaning == local.cleaning
  assert by_beam.samples() == local.samples()
  assert not list((tmp_path / "beam" / "work").iterdir())


def test_texts_that_change_under_beam_are_noticed(
  config, tmp_path, monkeypatch
):
  decide = Beam.decide

  def change(*args):
    (tmp_path / "text" / "001.txt").write_text("something else")
    decide(*args)

  monkeypatch.setattr(Beam, "decide", change)
  monkeypatch.setattr(CLEANERS, "_registered", {"noted": Noted})
  with pytest.raises(UserError, match="documents changed"):
    Corpus(dataclasses.replace(config, clean=("noted",)), beam=FLAGS)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("'x", "No closing quotation"),
    ("--runner=Foo", "Unexpected pipeline runner: Foo"),
    ("--nosuchflag=3", "--nosuchflag is not one of Beam's options"),
    ("--direct_num_worker=3", "did you mean 'direct_num_workers'?"),
  ],
)
def test_flags_that_beam_does_not_know_are_refused_before_reading(
  config, flags, message, monkeypatch
):
  monkeypatch.setattr(Beam, "listings", lambda self: 1 / 0)
  with pytest.raises(UserError) as caught:
    Corpus(config, beam=flags)
  assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_beams_workers_cannot_import_is_refused(config, monkeypatch):
  class Plugin(Noted):
    pass

  monkeypatch.setattr(CLEANERS, "_registered", {"mine": Plugin})
  with pytest.raises(UserError, match=r"data.clean='mine' is of a plugin"):
    Corpus(dataclasses.replace(config, clean=("mine",)), beam=FLAGS)
  monkeypatch.setattr(SOURCES, "_registered", {"text": Plugin})
  with pytest.raises(UserError, match=r"data.source='text:.*' is of a plugin"):
    readers(config)


def test_max_bytes_and_many_pieces_are_refused(config):
  with pytest.raises(UserError, match="Beam reads it in many at once"):
    Corpus(dataclasses.replace(config, max_bytes=5000), beam=FLAGS)
