"""Sources: the same documents everywhere, and mistakes told in one line."""

import dataclasses
import gzip
import json
import os
import pathlib
import re
import time

import pytest

from ablax.data.sources import SOURCES, files
from ablax.data.sources.text import Options, Text
from ablax.errors import UserError

PROVES = ("source:stdlib", "source:text")


def read(*paths, **options):
  return list(Text(Options(tuple(map(str, paths)), **options)).documents())


def error(*paths, **options):
  with pytest.raises(UserError) as caught:
    read(*paths, **options)
  message = str(caught.value)
  assert "\n" not in message
  return message


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_names_what_it_is_and_its_origin(name):
  what, origin = SOURCES.citation(name)
  assert what and origin


def test_stdlib_gives_code_and_english_but_no_tests_or_packages():
  documents = list(SOURCES["stdlib"](None).documents())
  names = [document.name for document in documents]
  assert len(names) == len(set(names)) > 500
  assert {"json/decoder.py", "pydoc_data/topics/lambda"} <= set(names)
  assert "pydoc_data/topics.py" not in names  # would leak held-out topics
  for name in names:
    assert not {"test", "tests", "idle_test", "site-packages"} & set(
      name.split("/")
    )
  assert all(document.text for document in documents)


def test_stdlib_order_is_that_of_the_names():
  names = [d.name for d in SOURCES["stdlib"](None).documents()]
  code = [name for name in names if name.endswith(".py")]
  topics = names[len(code) :]
  assert code == sorted(code) and topics == sorted(topics)


def test_folder_order_is_that_of_the_names_not_of_the_disk(tmp_path):
  for name in ("b.txt", "a/z.md", "a.txt", "c/d/e.py"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(name)
  names = [document.name for document in read(tmp_path)]
  assert names == ["a.txt", "a/z.md", "b.txt", "c/d/e.py"]


def test_globs_home_and_repeated_paths(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "x" / "y").mkdir(parents=True)
  (tmp_path / "x" / "y" / "one.md").write_text("one")
  (tmp_path / "x" / "two.txt").write_text("two")
  assert read("~/x/**/*.md", "~/x") == [("y/one.md", "one"), ("two.txt", "two")]


def test_a_file_keeps_its_line_ends_and_loses_its_byte_order_mark(tmp_path):
  (tmp_path / "a.txt").write_bytes("\ufeffa\r\nb\n".encode())
  assert read(tmp_path / "a.txt") == [("a.txt", "a\r\nb\n")]


def test_lines_and_paragraphs(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n\n \nthree\n")
  texts = [d.text for d in read(tmp_path / "a.txt", documents="line")]
  assert texts == ["one", "two", "three"]
  texts = [d.text for d in read(tmp_path / "a.txt", documents="paragraph")]
  assert texts == ["one\r\ntwo", "three"]


@pytest.mark.parametrize("documents", ["line", "paragraph"])
def test_blocks_of_the_reader_do_not_show(tmp_path, monkeypatch, documents):
  text = "é one\ntwo\n\nthree ü\n\n\nfour\n" * 20
  (tmp_path / "a.txt").write_text(text)
  whole = read(tmp_path / "a.txt", documents=documents)
  for block in (1, 2, 3, 7):
    monkeypatch.setattr("ablax.data.sources.files._BLOCK", block)
    assert read(tmp_path / "a.txt", documents=documents) == whole


@pytest.mark.parametrize("end", [r"\r?\n", r"\r?\n(?:[ \t]*\r?\n)+"])
def test_pieces_do_not_depend_on_where_blocks_end(end):
  text = "a\n\n  \nb \n \n\t\nc\r\n\r\n \r\nd\n e\n \n"
  pattern = re.compile(end)
  whole = [piece for piece in pattern.split(text) if piece.strip()]
  for first in range(len(text) + 1):
    for second in range(first, len(text) + 1):
      blocks = (text[:first], text[first:second], text[second:], "")
      assert list(files.cut(iter(blocks), pattern)) == whole


def test_a_long_line_takes_no_longer_in_many_blocks():
  text, n_blocks = ("word " * 1_000_000).rstrip(), 250
  size = len(text) // n_blocks

  def seconds(*blocks):
    start = time.process_time()
    assert list(files.cut(iter(blocks), re.compile(r"\n"))) == [text]
    return time.process_time() - start

  many = [text[i : i + size] for i in range(0, len(text), size)]
  # Quadratic, it took 100 times as long; a tenth of that is no accident.
  assert seconds(*many) < 10 * max(seconds(text), 0.01)


def test_jsonl_plain_and_compressed(tmp_path):
  lines = b'{"text": "a\\nb"}\n\n{"text": "c", "id": 2}\n'
  (tmp_path / "a.jsonl").write_bytes(lines)
  with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
    file.write(lines)
  with gzip.open(tmp_path / "c.txt.gz", "wb") as file:
    file.write(b"plain")
  assert read(tmp_path) == [
    ("a.jsonl#1", "a\nb"),
    ("a.jsonl#3", "c"),
    ("b.jsonl.gz#1", "a\nb"),
    ("b.jsonl.gz#3", "c"),
    ("c.txt.gz", "plain"),
  ]


def test_parquet_is_read_row_group_by_row_group(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  pytest.importorskip("pyarrow.parquet")

  table = pyarrow.table({"body": ["a", None, "c"], "n": [1, 2, 3]})
  file = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(table, file, row_group_size=2)
  assert [d.text for d in read(file, column="body")] == ["a", "", "c"]
  assert "a.parquet has no column 'text'; its columns are body, n" in (
    error(file)
  )
  assert "column 'n' holds int64, not strings" in error(file, column="n")
  file.write_bytes(file.read_bytes()[:-20])
  assert "a.parquet is not a whole Parquet file" in error(file, column="body")


def test_no_paths_is_refused():
  assert "data.opts.text.paths is empty; name files" in error()


def test_a_missing_file_is_named(tmp_path):
  message = error(tmp_path / "no.txt")
  assert f"{tmp_path}/no.txt, which does not exist" in message
  assert os.getcwd() in message


def test_a_glob_without_match_is_named(tmp_path):
  assert f"{tmp_path}/*.txt, which matches no file" in error(tmp_path / "*.txt")


def test_an_empty_file_is_refused_by_name_and_skipped_in_a_folder(tmp_path):
  (tmp_path / "a.txt").write_text("")
  (tmp_path / "b.txt").write_text("b")
  assert "a.txt is empty; leave it out" in error(tmp_path / "a.txt")
  assert [d.name for d in read(tmp_path)] == ["b.txt"]


def test_a_binary_file_is_refused(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"GIF89a\0\0")
  message = error(tmp_path / "a.txt")
  assert "a.txt is binary (a NUL byte at offset 6); leave it out" in message


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_the_offset_of_what_is_not_utf8_is_told(tmp_path, monkeypatch, block):
  monkeypatch.setattr("ablax.data.sources.files._BLOCK", block)
  (tmp_path / "a.txt").write_bytes("né".encode() + b"ab\xe9c")
  message = error(tmp_path / "a.txt")
  assert "a.txt is not UTF-8 (byte offset 5); convert it, as in: iconv" in (
    message
  )


def test_a_cut_gzip_file_is_named(tmp_path):
  whole = gzip.compress(os.urandom(1000))
  (tmp_path / "a.txt.gz").write_bytes(whole[:500])
  assert "a.txt.gz is" in error(tmp_path / "a.txt.gz")


def test_zstandard_is_unpacked_and_a_cut_file_is_named(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  for name in ("a.jsonl.zst", "b.TXT.ZST"):
    with pyarrow.output_stream(
      str(tmp_path / name), compression="zstd"
    ) as file:
      file.write(b'{"text": "a"}\n{"text": null}\n')
  assert read(tmp_path) == [
    ("a.jsonl.zst#1", "a"),
    ("a.jsonl.zst#2", ""),
    ("b.TXT.ZST", '{"text": "a"}\n{"text": null}\n'),
  ]
  file = tmp_path / "a.jsonl.zst"
  file.write_bytes(file.read_bytes()[:-1])
  assert f"{file} is not a whole Zstandard file" in error(file)


def test_a_pointer_of_git_lfs_is_told_from_the_data(tmp_path):
  pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
  for name in ("a.txt", "a.parquet", "a.jsonl.gz", "a.jsonl.zst"):
    file = tmp_path / name
    file.write_bytes(pointer)
    assert f"{file} is only Git LFS's pointer to the data; run git lfs" in (
      error(file)
    )


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch, name):
  (tmp_path / name).write_text("x")

  def refuse(self, mode):  # root, as in CI, may read everything
    raise PermissionError

  monkeypatch.setattr(pathlib.Path, "open", refuse)
  assert f"{name} may not be read; chmod +r {tmp_path}" in (
    error(tmp_path / name)
  )


def test_a_parquet_dictionary_of_strings_is_text(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  pytest.importorskip("pyarrow.parquet")

  words = pyarrow.array(["a", "b", "a"]).dictionary_encode()
  pyarrow.parquet.write_table(
    pyarrow.table({"text": words}), tmp_path / "a.parquet"
  )
  assert [d.text for d in read(tmp_path)] == ["a", "b", "a"]


def test_each_source_says_which_option_its_argument_sets():
  for name in SOURCES:
    fields = {f.name for f in dataclasses.fields(SOURCES.options(name))}
    argument = SOURCES[name].argument
    assert argument in fields or (argument == "" and not fields)


def test_a_jsonl_line_that_is_wrong_is_told_with_its_number(tmp_path):
  file = tmp_path / "a.jsonl"
  good = json.dumps({"text": "x"}) + "\n"
  file.write_text(good + "{oops\n")
  assert "a.jsonl:2 is not JSON" in error(file)
  file.write_text(good + "[1]\n")
  assert "a.jsonl:2 is a JSON list, not an object" in error(file)
  file.write_text(good + '\n{"body": "x", "id": 1}\n')
  assert (
    "a.jsonl:3 has no field 'text'; its fields are body, id: set"
    " data.opts.text.column" in error(file)
  )
  file.write_text('{"text": 3}\n')
  assert "a.jsonl:1 has no text in its field 'text'" in error(file)


def test_an_unknown_unit_is_refused_with_the_nearest():
  with pytest.raises(UserError, match="did you mean 'line'"):
    Options(documents="lines")


def test_pieces_in_turn_are_the_documents(tmp_path):
  (tmp_path / "a.txt").write_text("one\ntwo\n")
  (tmp_path / "b.jsonl").write_text('{"text": "three"}\n{"text": "four"}\n')
  (tmp_path / "c.txt").write_text("")
  source = Text(Options((str(tmp_path),), documents="line"))
  assert source.n_pieces() == 2
  pieces = [list(source.piece(i)) for i in range(source.n_pieces())]
  assert [d for piece in pieces for d in piece] == list(source.documents())
  whole = SOURCES["stdlib"](None)
  assert whole.n_pieces() == 1


def test_a_number_of_too_many_digits_is_told_with_its_line(tmp_path):
  (tmp_path / "a.jsonl").write_text('{"text": ' + "9" * 5000 + "}\n")
  assert "a.jsonl:1 is not JSON (Exceeds the limit" in (
    error(tmp_path / "a.jsonl")
  )


def test_a_row_that_is_not_utf8_is_told_with_its_number(tmp_path):
  pyarrow = pytest.importorskip("pyarrow")
  pytest.importorskip("pyarrow.parquet")

  rows = [b"fine"] * 1500 + [b"ab\xe9"] + [b"fine"]
  column = pyarrow.array(rows).view(pyarrow.string())
  pyarrow.parquet.write_table(
    pyarrow.table({"text": column}), tmp_path / "a.parquet"
  )
  assert "a.parquet column 'text' row 1500 is not UTF-8 (byte offset 2)" in (
    error(tmp_path / "a.parquet")
  )


def test_ndjson_is_json_lines_and_json_is_a_document(tmp_path):
  (tmp_path / "a.ndjson").write_text('{"text": "one"}\n')
  (tmp_path / "b.json").write_text('{\n  "name": "b"\n}\n')
  assert read(tmp_path) == [
    ("a.ndjson#1", "one"),
    ("b.json", '{\n  "name": "b"\n}\n'),
  ]
