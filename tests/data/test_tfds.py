"""TFDS without TensorFlow: any name's documents, and errors of one line."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import corpora
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ablax.data.builders import CORPORA
from ablax.data.corpus import Corpus
from ablax.data.sources.tfds import TFDS, Options
from ablax.errors import UserError
from ablax.registry import Opts

PROVES = ("source:tfds",)
ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = [f"document {i}: 一 é\r\n" + "word " * (i % 7) for i in range(23)]


class AnyTexts(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Anybody's: nested features, other types, two splits, shuffled."""

  VERSION = tfds.core.Version("2.0.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "text": tfds.features.Text(),
          "pair": tfds.features.Translation(["en", "zh"]),
          "raw": tfds.features.Tensor(shape=(), dtype=np.str_),
          "tags": tfds.features.Sequence(tfds.features.Text()),
          "label": tfds.features.ClassLabel(num_classes=30),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {
      "train": self._generate_examples(TEXTS),
      "test": self._generate_examples(TEXTS[:2]),
    }

  def _generate_examples(self, texts):
    for i, text in enumerate(texts):
      yield (
        i,
        {
          "text": text,
          "pair": {"en": f"one {i}", "zh": f"一 {i}"},
          "raw": b"\xff" if i == 5 else b"fine",
          "tags": ["a", "b"],
          "label": i,
        },
      )


class UserTexts(AnyTexts, skip_registration=True):
  """TFDS can find it by its files alone."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  UserTexts(data_dir=folder, file_format="array_record").download_and_prepare()
  return folder


def read(name, folder, **options):
  return list(TFDS(Options(name, data_dir=str(folder), **options)).documents())


def error(name, folder, **options):
  with pytest.raises(UserError) as caught:
    read(name, folder, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


def peer(split, data_dir, feature="text"):
  """What TFDS's own reader makes of it."""
  records = tfds.data_source("user_texts", split=split, data_dir=data_dir)
  return [record[feature].decode() for record in records]


@pytest.mark.parametrize(
  "split", ["train", "test", "train[3:8]", "train[-20%:]+test", "all"]
)
def test_any_name_gives_what_the_librarys_own_reader_gives(data_dir, split):
  documents = read("user_texts", data_dir, split=split)
  assert [d.text for d in documents] == peer(split, data_dir)
  assert [d.name for d in documents] == [
    f"user_texts/{split}#{i}" for i in range(len(documents))
  ]


def test_every_text_is_there(data_dir):
  assert sorted(d.text for d in read("user_texts", data_dir)) == sorted(TEXTS)


def test_the_name_may_carry_version_and_split(data_dir):
  documents = read("user_texts", data_dir, split="train[:3]")
  for name in ("user_texts:train[:3]", "user_texts:2.0.0:train[:3]"):
    found = read(name, data_dir)
    assert [d.text for d in found] == [d.text for d in documents]
  assert Options("a/b:1.*.*:test") == Options("a/b:1.*.*", "test")
  assert Options("a/b:1.2.3").split == "train"
  # A resolved config is a config again.
  again = Options("a:test")
  assert Options(again.name, again.split) == again


def test_a_nested_feature_is_named_by_its_path(data_dir):
  documents = read("user_texts", data_dir, split="test", column="pair/zh")
  assert sorted(d.text for d in documents) == ["一 0", "一 1"]


@pytest.mark.parametrize("block", [1, 3, 23, 100])
def test_blocks_of_the_reader_do_not_show(data_dir, monkeypatch, block):
  whole = read("user_texts", data_dir)
  monkeypatch.setattr("ablax.data.sources.tfds._BLOCK", block)
  assert read("user_texts", data_dir) == whole


def test_each_call_reads_anew(data_dir):
  source = TFDS(Options("user_texts", data_dir=str(data_dir)))
  first, second = source.documents(), source.documents()
  assert next(first) == next(second)
  assert list(first) == list(second)
  assert len(list(source.documents())) == len(TEXTS)


def test_a_corpus_is_split_and_read_again(data_dir):
  options = Options("user_texts", data_dir=str(data_dir))
  config = corpora.config(
    "",
    mixture=(("tfds", 1.0, 0.0),),
    heldout_bytes=200,
    opts=Opts({"tfds": options}),
  )
  corpus = Corpus(config)
  texts = [t.text for t in (*corpus.train("a"), *corpus.heldout("b"))]
  assert sorted(texts) == sorted(TEXTS)


def test_the_default_folder_is_in_the_cache(data_dir, monkeypatch, tmp_path):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path))
  (tmp_path / "tfds").symlink_to(data_dir)
  documents = list(TFDS(Options("user_texts:test")).documents())
  assert len(documents) == 2


def test_tensorflow_is_never_imported(data_dir, tmp_path):
  """Nor is it asked for: one lies in wait on the path."""
  (tmp_path / "tensorflow").mkdir()
  (tmp_path / "tensorflow/__init__.py").write_text(
    "raise SystemExit('tensorflow was imported')"
  )
  (tmp_path / "fables-1.dist-info").mkdir()
  (tmp_path / "fables-1.dist-info/METADATA").write_text(
    "Metadata-Version: 2.1\nName: fables\nVersion: 1\n"
  )
  (tmp_path / "fables.txt").write_text("a fable")
  script = f"""
    import hashlib, sys
    import tensorflow_datasets as tfds
    from ablax.data.builders import CORPORA
    from ablax.data.builders.packaged import Packaged
    from ablax.data.sources.tfds import TFDS, Options
    class Fables(Packaged):
      "Some."
      VERSION, PACKAGE = tfds.core.Version("1.0.0"), "fables==1"
      FILES = {{"fables.txt": hashlib.sha256(b"a fable").hexdigest()}}
      HOMEPAGE = LICENSE = CITATION = "none"
      def examples(self, raw):
        yield {{"text": raw[0].decode()}}
    CORPORA.register("fables")(Fables)
    print(*TFDS(Options("fables", data_dir=r"{tmp_path}/new")).documents())
    read = TFDS(Options("user_texts", data_dir=r"{data_dir}")).documents()
    print(len(list(read)), "tensorflow" in sys.modules)
  """
  path = os.pathsep.join([str(tmp_path), str(ROOT)])
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script)],
    env=os.environ | {"PYTHONPATH": path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    "Document(name='fables/train#0', text='a fable')",
    f"{len(TEXTS)} False",
  ]


def test_no_name_lists_the_corpora(tmp_path):
  message = error("", tmp_path)
  assert "data.opts.tfds.name is empty" in message
  assert all(name in message for name in CORPORA)


@pytest.mark.parametrize("name", ["lm1b:", ":train", "a b"])
def test_what_is_no_name_is_refused(tmp_path, name):
  assert f"{name!r} is not NAME[/CONFIG][:SPLIT]" in error(name, tmp_path)


def test_two_splits_are_refused(tmp_path):
  assert "has a split and data.opts.tfds.split is 'dev'; keep one" in (
    error("lm1b:test", tmp_path, split="dev")
  )


@pytest.mark.parametrize(
  ("name", "hint"),
  [
    ("enwik", "did you mean 'enwiki_excerpt'?"),
    ("le_news", "did you mean 'lee_news'?"),
    ("wikipedia2/x", "did you mean 'wikipedia'?"),
    ("qqqqqqqq", "there is: bible_kjv, botchan, "),
    ("huggingface:squad", "is not a name of TFDS or ablax"),
  ],
)
def test_an_unknown_name_is_told_with_the_nearest(tmp_path, name, hint):
  message = error(name, tmp_path)
  assert hint in message and len(message) < 300


def test_a_version_or_config_that_is_not_there_is_told(data_dir, tmp_path):
  assert "is not in" in error("user_texts:9.9.9", data_dir)
  assert "which has user_texts/2.0.0" in error("user_texts:9.9.9", data_dir)
  assert "cannot be loaded at version 9.9.9, only: " in (
    error("lm1b:9.9.9", tmp_path)
  )
  message = error("wikipedia/20230601.simpl", tmp_path)
  assert message.endswith(
    "cannot be opened: BuilderConfig 20230601.simpl not found with version"
    " 1.0.0; did you mean '20230601.simple'?"
  )


def test_a_missing_split_is_told_with_those_there_are(data_dir):
  for split in ("dev", "train[:5%"):
    assert (
      f"'user_texts' has no split {split!r}; its splits are test, train"
      in error("user_texts", data_dir, split=split)
    )


def test_a_missing_column_is_told_with_those_there_are(data_dir):
  message = error("user_texts", data_dir, column="body")
  assert (
    "'user_texts' has no column 'body'; its columns are label, pair/en,"
    " pair/zh, raw, tags, text" in message
  )
  assert "to one with text (pair/en, pair/zh, raw, text)" in message


@pytest.mark.parametrize("column", ["label", "tags"])
def test_a_column_that_is_not_text_is_refused(data_dir, column):
  assert f"holds no text in the column {column!r}" in (
    error("user_texts", data_dir, column=column)
  )


def test_bytes_that_are_not_utf8_are_told_with_their_document(data_dir):
  i = read("user_texts", data_dir).index(
    next(d for d in read("user_texts", data_dir) if d.text == TEXTS[5])
  )
  assert (
    f"user_texts/train#{i} is not UTF-8 (byte offset 0 of the feature 'raw')"
    in (error("user_texts", data_dir, column="raw"))
  )


def copied(data_dir, tmp_path):
  """A copy of the prepared files that may be spoilt."""
  new = tmp_path / "user_texts" / "2.0.0"
  new.mkdir(parents=True)
  for file in (data_dir / "user_texts/2.0.0").iterdir():
    (new / file.name).write_bytes(file.read_bytes())
  return new


def test_tfrecord_is_refused_with_the_way_to_convert_it(data_dir, tmp_path):
  folder = copied(data_dir, tmp_path)
  info = json.loads((folder / "dataset_info.json").read_text())
  info["fileFormat"] = "tfrecord"
  (folder / "dataset_info.json").write_text(json.dumps(info))
  message = error("user_texts", tmp_path)
  assert f"{folder} is prepared as tfrecord, not as array_record" in message
  assert "tfds convert_format --dataset_version_dir=" in message


def test_damage_is_told_with_the_folder(data_dir, tmp_path):
  folder = copied(data_dir, tmp_path)
  (file,) = folder.glob("*-train.array_record*")
  whole = file.read_bytes()
  for spoilt in (
    whole[:65536],  # a block's end: the reader itself sees nothing wrong
    whole[:-1],
    whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
    None,
  ):
    file.unlink() if spoilt is None else file.write_bytes(spoilt)
    assert f"{folder} is damaged (" in error("user_texts", tmp_path)
  (folder / "dataset_info.json").write_text("{")
  assert "'user_texts' cannot be opened: " in error("user_texts", tmp_path)


@pytest.fixture
def no_network(monkeypatch):
  """Every request goes to a port that nobody listens on."""
  for name in ("http_proxy", "https_proxy"):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
  for name in ("no_proxy", "NO_PROXY"):
    monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["wikipedia/20230601.en", "gsm8k"])
def test_a_name_that_needs_the_network_says_so_and_what_to_do(
  tmp_path, no_network, name
):
  message = error(f"{name}:train[:1%]", tmp_path)
  assert f"{name!r} is not in {tmp_path} and cannot be prepared here" in message
  assert "(it needs the network, and https://" in message
  assert "with TensorFlow installed, run: tfds build" in message
  assert f"tfds build {name} --file_format=array_record" in message
  assert "set data.opts.tfds.data_dir=DIR" in message


class LocalTexts(AnyTexts):
  """TFDS knows it by name, and it needs no network."""


def test_what_can_be_prepared_is_without_being_asked(tmp_path, monkeypatch):
  monkeypatch.setattr("requests.head", lambda url, timeout: None)
  texts = [d.text for d in read("local_texts", tmp_path)]
  assert sorted(texts) == sorted(TEXTS)
  assert list((tmp_path / "local_texts/2.0.0").glob("*.array_record*"))
  monkeypatch.setattr(LocalTexts, "_split_generators", None)
  assert [d.text for d in read("local_texts", tmp_path)] == texts


@pytest.mark.parametrize(
  "raised", [ModuleNotFoundError("No module named 'x'"), OSError("ftp\nfails")]
)
def test_whatever_goes_wrong_there_is_told_in_one_line(
  tmp_path, monkeypatch, raised
):
  def fail(self, dl_manager):
    raise raised

  monkeypatch.setattr("requests.head", lambda url, timeout: None)
  monkeypatch.setattr(LocalTexts, "_split_generators", fail)
  said = " ".join(str(raised).split())
  assert f"prepared here ({type(raised).__name__}: {said}); where there is" in (
    error("local_texts", tmp_path)
  )


def test_a_full_disk_is_not_taken_for_a_missing_network(tmp_path, monkeypatch):
  def fail(self, dl_manager):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr("requests.head", lambda url, timeout: None)
  monkeypatch.setattr(LocalTexts, "_split_generators", fail)
  with pytest.raises(OSError, match="No space left"):
    read("local_texts", tmp_path)
