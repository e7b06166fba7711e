"""Cleaning by Apache Beam: the decisions of one process."""

import dataclasses

import corpora
import pytest

from ablax.data.cleaning import gopher
from ablax.data.corpus import Corpus
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


def test_max_bytes_and_many_pieces_are_refused(config):
  with pytest.raises(UserError, match="Beam reads it in many at once"):
    Corpus(dataclasses.replace(config, max_bytes=5000), beam=FLAGS)
