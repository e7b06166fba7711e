"""Local Hugging Face folders: what the library gives, and never the network."""

import gzip
import json
import pathlib
import socket
import sys

import pyarrow
import pyarrow.parquet
import pytest

from ablax.data.sources.hf import HF, Options
from ablax.errors import UserError

datasets = pytest.importorskip("datasets")

PROVES = ("source:hf",)
ROWS = [
  {"text": "one\r\né", "n": 1},
  {"text": "", "n": 2},
  {"text": None, "n": 3},
  {"text": " 一二三 \u2028 \n", "n": 4},
]


@pytest.fixture(autouse=True)
def network(monkeypatch):
  """Notes every attempt to reach another machine; there may be none."""
  tried = []

  def refuse(*where, **options):
    tried.append(where)
    raise OSError("no network in this test")

  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(socket, "getaddrinfo", refuse)
  yield
  assert not tried


def jsonl(file, rows=tuple(ROWS), opened=open):
  file.parent.mkdir(parents=True, exist_ok=True)
  with opened(file, "wt", encoding="utf-8") as stream:
    stream.writelines(json.dumps(row) + "\n" for row in rows)


def parquet(file, rows=tuple(ROWS)):
  file.parent.mkdir(parents=True, exist_ok=True)
  table = pyarrow.Table.from_pylist(list(rows))
  pyarrow.parquet.write_table(table, file, row_group_size=3)


def card(folder, yaml):
  (folder / "README.md").write_text(f"---\n{yaml}---\n# A card\n")


def read(folder, **options):
  return list(HF(Options(str(folder), **options)).documents())


def texts(folder, **options):
  return [document.text for document in read(folder, **options)]


def peer(folder, tmp_path, split="train", column="text", name=None):
  """What the library's own reader makes of the folder."""
  table = datasets.load_dataset(
    str(folder), name, split=split, cache_dir=str(tmp_path / "cache")
  )
  return [text or "" for text in table[column]]


def error(folder, **options):
  with pytest.raises(UserError) as caught:
    read(folder, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.fixture
def folder(tmp_path):
  new = tmp_path / "folder"
  new.mkdir()
  return new


def numbered(*ns):
  return [{"text": f"text {n}", "n": n} for n in ns]


LAYOUTS = {
  "shards in data/": {
    "data/train-00000-of-00002.parquet": numbered(0, 1),
    "data/train-00001-of-00002.parquet": numbered(2),
    "data/test-00000-of-00001.parquet": numbered(3),
  },
  "split in the file's name": {
    "my_train.jsonl": numbered(0, 1),
    "my_test.jsonl": numbered(2),
  },
  "split in the folder's name": {
    "train/b.parquet": numbered(0),
    "train/a.parquet": numbered(1),
    "test/a.parquet": numbered(2),
  },
  "no split": {"z.jsonl": numbered(0), "deep/er/a.jsonl": numbered(1)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_belong_to_the_splits_that_the_library_says(
  folder, tmp_path, layout
):
  for name, rows in LAYOUTS[layout].items():
    (parquet if name.endswith("parquet") else jsonl)(folder / name, rows)
  splits = datasets.get_dataset_split_names(str(folder))
  assert splits == (["train"] if layout == "no split" else ["train", "test"])
  for split in splits:
    assert texts(folder, split=split) == peer(folder, tmp_path, split)


@pytest.mark.parametrize("name", ["train.parquet", "train.jsonl", "train.json"])
def test_a_files_texts_are_what_the_library_reads(folder, tmp_path, name):
  (parquet if name.endswith("parquet") else jsonl)(folder / name)
  assert texts(folder) == peer(folder, tmp_path)
  assert texts(folder) == [row["text"] or "" for row in ROWS]


def test_documents_are_named_by_file_and_row(folder):
  parquet(folder / "data/train-00000-of-00002.parquet")
  jsonl(folder / "data/train-00001-of-00002.jsonl")
  assert [d.name for d in read(folder)][2:4] == [
    "data/train-00000-of-00002.parquet#2",
    "data/train-00000-of-00002.parquet#3",
  ]


def test_packed_json_lines(folder, tmp_path):
  jsonl(folder / "train.jsonl.gz", opened=gzip.open)
  assert texts(folder) == peer(folder, tmp_path)
  plain = gzip.decompress((folder / "train.jsonl.gz").read_bytes())
  (folder / "train.jsonl.gz").unlink()
  with pyarrow.output_stream(str(folder / "train.jsonl.zst")) as file:
    file.write(plain)
  assert texts(folder) == [row["text"] or "" for row in ROWS]
  file = folder / "train.jsonl.zst"
  file.write_bytes(file.read_bytes()[:-1])
  assert "is not a whole Zstandard file" in error(folder)


@pytest.fixture
def subsets(folder):
  """Two subsets, each with splits of names that no convention knows."""
  jsonl(folder / "a/x.jsonl", numbered(0, 1))
  jsonl(folder / "b/y.jsonl", numbered(2))
  jsonl(folder / "b/z.jsonl", numbered(3))
  card(
    folder,
    "configs:\n"
    "- config_name: poems\n"
    "  data_files: a/*.jsonl\n"
    "- config_name: plays\n"
    "  data_files:\n"
    "  - split: comic\n"
    "    path: b/z.jsonl\n"
    "  - split: tragic\n"
    '    path: ["b/y.jsonl", "a/*.jsonl"]\n',
  )
  return folder


@pytest.mark.parametrize(
  ("name", "split"),
  [("poems", "train"), ("plays", "comic"), ("plays", "tragic")],
)
def test_a_cards_subsets_and_splits_are_its_own(subsets, tmp_path, name, split):
  found = texts(subsets, config_name=name, split=split)
  assert found == peer(subsets, tmp_path, split, name=name)
  assert found


def test_the_default_subset_is_the_one_the_card_says(subsets, tmp_path):
  assert "holds poems, plays and says of none that it is the default" in (
    error(subsets)
  )
  file = subsets / "README.md"
  file.write_text(
    file.read_text().replace("poems\n", "poems\n  default: true\n")
  )
  assert texts(subsets) == peer(subsets, tmp_path) == ["text 0", "text 1"]
  assert "config_name='play' is not in" in error(subsets, config_name="play")
  assert "did you mean 'plays'?" in error(subsets, config_name="play")


@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_saved_dataset_is_read_in_order(tmp_path, n_shards):
  rows = [{"text": f"text {i}" if i % 9 else None} for i in range(2500)]
  table = datasets.Dataset.from_list(rows, split="train")
  table.save_to_disk(str(tmp_path / "saved"), num_shards=n_shards)
  documents = read(tmp_path / "saved")
  assert [d.text for d in documents] == [row["text"] or "" for row in rows]
  assert documents[2499].name == "train#2499"
  assert "has no split 'test'; its splits are train" in (
    error(tmp_path / "saved", split="test")
  )


def test_a_saved_dict_has_its_splits(tmp_path):
  one, two = (datasets.Dataset.from_list(numbered(n)) for n in (1, 2))
  saved = datasets.DatasetDict({"train": one, "more": two.select([0])})
  saved.save_to_disk(str(tmp_path))
  assert texts(tmp_path, split="more") == ["text 2"]
  assert "its splits are train, more" in error(tmp_path, split="x")
  assert "column 'n' holds int64, not strings" in error(tmp_path, column="n")
  assert "has no column 'body'; its columns are text, n" in (
    error(tmp_path, column="body")
  )
  (tmp_path / "train/state.json").write_text("{")
  assert "cannot be read as a dataset" in error(tmp_path)


def test_files_that_are_links_into_a_cache_are_read(folder, tmp_path):
  parquet(tmp_path / "blobs/0a1b2c")
  (folder / "train.parquet").symlink_to(tmp_path / "blobs/0a1b2c")
  (tmp_path / "snapshot").symlink_to(folder)
  (document, *_) = read(tmp_path / "snapshot")
  assert document == ("train.parquet#0", "one\r\né")


def test_each_call_reads_anew(folder):
  parquet(folder / "train.parquet")
  source = HF(Options(str(folder)))
  first, second = source.documents(), source.documents()
  assert next(first) == next(second)
  assert len(list(first)) == len(list(second)) == 3


def test_home_is_known(folder, monkeypatch):
  jsonl(folder / "x/a.jsonl")
  monkeypatch.setenv("HOME", str(folder))
  assert len(texts("~/x")) == len(ROWS)


def test_nothing_is_written_to_the_librarys_cache(folder, tmp_path):
  parquet(folder / "train.parquet")
  before = pathlib.Path(datasets.config.HF_DATASETS_CACHE)
  before = set(before.rglob("*")) if before.exists() else set()
  read(folder)
  after = pathlib.Path(datasets.config.HF_DATASETS_CACHE)
  assert (set(after.rglob("*")) if after.exists() else set()) == before


@pytest.mark.parametrize("name", ["", "squad", "no/such"])
def test_a_folder_that_is_not_there_is_told_with_the_way_to_get_it(name):
  message = error(name)
  assert f"data.opts.hf.folder={name!r} is not a folder" in message
  assert "hf download NAME --repo-type=dataset --local-dir=FOLDER" in message


def test_a_folder_without_data_is_refused(folder):
  assert "cannot be read as a dataset (" in error(folder)
  (folder / "a.csv").write_text("text\nhi\n")
  assert "a.csv is neither Parquet nor JSON Lines; convert it" in error(folder)


def test_a_card_that_is_wrong_is_refused(folder):
  jsonl(folder / "a.jsonl")
  card(folder, "configs: [\n")
  assert "cannot be read as a dataset (" in error(folder)
  card(folder, "configs:\n- config_name: x\n  data_files: nothing/*.jsonl\n")
  assert "cannot be read as a dataset (" in error(folder)
  (folder / "README.md").write_text("No values here: https://example.org")
  assert len(texts(folder)) == len(ROWS)


@pytest.mark.parametrize(
  "url", ["https://example.org/a.jsonl", "hf://datasets/a/b/c.jsonl"]
)
@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_files_elsewhere_are_refused_before_they_are_asked_for(
  folder, file, url
):
  jsonl(folder / "a.jsonl")
  yaml = f"configs:\n- config_name: x\n  data_files:\n  - {url}\n"
  if file == "README.md":
    card(folder, yaml)
  else:
    (folder / file).write_text(yaml)
  assert f"{file} names {url}, which needs the network" in error(folder)


def test_a_missing_split_is_told_with_those_there_are(folder):
  parquet(folder / "data/train-00000-of-00001.parquet")
  parquet(folder / "data/test-00000-of-00001.parquet")
  assert "has no split 'dev'; its splits are train, test" in (
    error(folder, split="dev")
  )


def test_a_missing_column_is_told_with_those_there_are(folder):
  parquet(folder / "a.parquet")
  assert (
    "a.parquet has no column 'body'; its columns are text, n: set"
    " data.opts.hf.column to one" in error(folder, column="body")
  )
  assert "a.parquet column 'n' holds int64, not strings" in (
    error(folder, column="n")
  )
  (folder / "a.parquet").unlink()
  jsonl(folder / "a.jsonl")
  assert "a.jsonl:1 has no field 'body'; its fields are text, n: set" in (
    error(folder, column="body")
  )
  assert "a.jsonl:1 has no text in its field 'n'" in error(folder, column="n")


def test_a_broken_file_is_named(folder):
  file = folder / "train.parquet"
  parquet(file)
  whole = file.read_bytes()
  file.write_bytes(whole[:-20])
  assert f"{file} is not a whole Parquet file" in error(folder)
  file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid x\n")
  assert f"{file} is only Git LFS's pointer to the data" in error(folder)


def test_without_the_library_its_package_is_named(folder, monkeypatch):
  jsonl(folder / "a.jsonl")
  monkeypatch.setitem(sys.modules, "datasets", None)
  assert error(folder) == (
    "data.source=hf needs the package datasets; pip install datasets"
  )


def test_a_saved_row_that_is_not_utf8_is_told_with_its_number(tmp_path):
  rows = [b"fine"] * 1500 + [b"ab\xe9"]
  column = pyarrow.array(rows).view(pyarrow.string())
  table = datasets.Dataset(pyarrow.table({"text": column}))
  table.save_to_disk(str(tmp_path / "saved"))
  assert "column 'text' row 1500 is not UTF-8 (byte offset 2)" in (
    error(tmp_path / "saved")
  )
