"""Your own files: plain text, JSON Lines or Parquet (files on your disk)."""

import codecs
import dataclasses
import glob
import gzip
import io
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import ClassVar

from ...errors import UserError, nearest
from . import Document, Source

_UNITS = ("file", "line", "paragraph")
_BLOCK = 1 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class Options:
  """Which files, and what in them is one document.

  paths: files, folders (read whole) and globs (`**` too); `~` is your home.
  documents: what one document is in plain text: file | line | paragraph
    (paragraphs end at blank lines). A JSONL line or Parquet row is always one.
  column: the JSONL field or Parquet column that holds the text.
  """

  paths: tuple[str, ...] = ()
  documents: str = "file"
  column: str = "text"

  def __post_init__(self):
    if isinstance(self.paths, str):
      object.__setattr__(self, "paths", (self.paths,))
    if self.documents not in _UNITS:
      raise UserError(
        f"data.opts.text.documents={self.documents!r} is not one of"
        f" {', '.join(_UNITS)}{nearest(self.documents, _UNITS)}"
      )


class Text(Source):
  """The documents of the files, in the order of `paths`, then of names."""

  argument: ClassVar[str] = "paths"

  def __init__(self, options: Options):
    if not options.paths:
      raise UserError(
        "data.opts.text.paths is empty; name files, folders or globs, as in"
        " --config.data.opts.text.paths='(\"notes/**/*.md\",)'"
      )
    self._options = options

  def documents(self) -> Iterator[Document]:
    for name, file in self._all_files():
      yield from self._read(name, file)

  def n_pieces(self) -> int:
    return len(self._all_files())

  def piece(self, i: int) -> Iterator[Document]:
    return self._read(*self._all_files()[i])

  def _all_files(self) -> list[tuple[str, pathlib.Path]]:
    """Returns (name, file) of each file that holds something, once."""
    found: dict[pathlib.Path, str] = {}
    for path in self._options.paths:
      for name, file in _files(path):
        if file.stat().st_size:
          # One that is named twice, say by a folder and a glob, is read once.
          found.setdefault(file, name)
        elif os.path.isfile(os.path.expanduser(path)):
          # In a folder an empty file is ordinary; named by itself, a mistake.
          raise UserError(
            f"{file} is empty; leave it out of data.opts.text.paths"
          )
    return [(name, file) for file, name in found.items()]

  def _read(self, name: str, file: pathlib.Path) -> Iterator[Document]:
    if name.lower().endswith(".parquet"):
      return self._parquet(name, file)
    if name.lower().endswith((".jsonl", ".jsonl.gz")):
      return self._jsonl(name, file)
    return self._plain(name, file)

  def _plain(self, name: str, file: pathlib.Path) -> Iterator[Document]:
    if self._options.documents == "file":
      yield Document(name, "".join(_decoded(file)))
      return
    end = r"\r?\n"
    if self._options.documents == "paragraph":
      end = r"\r?\n(?:[ \t]*\r?\n)+"
    for i, text in enumerate(_cut(_decoded(file), re.compile(end))):
      yield Document(f"{name}#{i}", text)

  def _jsonl(self, name: str, file: pathlib.Path) -> Iterator[Document]:
    column = self._options.column
    lines = _cut(_decoded(file), re.compile(r"\n"), blank=True)
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      where = f"{file}:{number}"
      try:
        row = json.loads(line)
      except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(
          f"{where} is not JSON ({error}); .jsonl holds one JSON object a"
          " line: mend the line or rename the file to .txt"
        ) from None
      if not isinstance(row, dict):
        raise UserError(
          f"{where} is a JSON {type(row).__name__}, not an object;"
          f' write {{"{column}": "..."}}'
        )
      if not isinstance(row.get(column), str):
        has = "no" if column not in row else "no text in its"
        raise UserError(
          f"{where} has {has} field {column!r}; its fields are"
          f" {', '.join(row) or 'none'}: set data.opts.text.column to one"
        )
      yield Document(f"{name}#{number}", row[column])

  def _parquet(self, name: str, file: pathlib.Path) -> Iterator[Document]:
    try:
      import pyarrow
      import pyarrow.parquet
    except ImportError:
      raise UserError(
        f"reading {file} needs pyarrow; pip install pyarrow"
      ) from None
    column = self._options.column
    try:
      table = pyarrow.parquet.ParquetFile(file)
      columns = table.schema_arrow.names
      if column not in columns:
        raise UserError(
          f"{file} has no column {column!r}; its columns are"
          f" {', '.join(columns)}: set data.opts.text.column to one"
        )
      kind = table.schema_arrow.field(column).type
      if not pyarrow.types.is_string(kind) and not (
        pyarrow.types.is_large_string(kind)
      ):
        raise UserError(
          f"{file} column {column!r} holds {kind}, not strings; set"
          f" data.opts.text.column to one of {', '.join(columns)}"
        )
      number = 0
      for group in range(table.num_row_groups):
        rows = table.read_row_group(group, columns=[column])
        for text in rows.column(0).to_pylist():
          yield Document(f"{name}#{number}", text or "")
          number += 1
    except pyarrow.ArrowInvalid as error:
      raise UserError(
        f"{file} is not a whole Parquet file"
        f" ({str(error).splitlines()[0]}); write it again"
      ) from None


def _files(path: str) -> list[tuple[str, pathlib.Path]]:
  """Returns (relative posix name, file) of what `path` names, by name."""
  full = os.path.expanduser(path)
  if os.path.isfile(full):
    return [(os.path.basename(full), pathlib.Path(full))]
  if os.path.isdir(full):
    root, found = full, glob.iglob("**", root_dir=full, recursive=True)
  elif glob.has_magic(full):
    # The part before the first wildcard, so that names do not tell where the
    # corpus lies.
    parts = pathlib.Path(full).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = str(pathlib.Path(*parts[:fixed]))
    found = glob.iglob(
      str(pathlib.Path(*parts[fixed:])), root_dir=root, recursive=True
    )
  else:
    raise UserError(
      f"data.opts.text.paths names {path}, which does not exist; paths are"
      f" taken from {os.getcwd()}"
    )
  names = sorted(
    pathlib.Path(name).as_posix()
    for name in found
    if os.path.isfile(os.path.join(root, name))
  )
  if not names:
    raise UserError(
      f"data.opts.text.paths names {path}, which matches no file; paths are"
      f" taken from {os.getcwd()}"
    )
  return [(name, pathlib.Path(root, name)) for name in names]


def _decoded(file: pathlib.Path) -> Iterator[str]:
  """Yields the text of a file block by block; a byte order mark is dropped."""
  decoder = codecs.getincrementaldecoder("utf-8")()
  read = left = 0  # bytes read before this block; of them, not yet decoded
  with _opened(file) as stream:
    while True:
      try:
        block = stream.read(_BLOCK)
      except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
          f"{file} is not a whole gzip file ({error}); compress it again"
        ) from None
      if (nul := block.find(b"\0")) >= 0:
        raise UserError(
          f"{file} is binary (a NUL byte at offset {read + nul}); leave it"
          " out of data.opts.text.paths, or save it as UTF-8 text"
        )
      try:
        text = decoder.decode(block, final=not block)
      except UnicodeDecodeError as error:
        raise UserError(
          f"{file} is not UTF-8 (byte offset {read - left + error.start});"
          " convert it, as in: iconv -f latin1 -t utf-8 OLD > NEW"
        ) from None
      if not read and text.startswith("\ufeff"):
        text = text[1:]
      yield text
      if not block:
        return
      read, left = read + len(block), len(decoder.getstate()[0])


def _opened(file: pathlib.Path) -> io.BufferedIOBase:
  try:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")
  except PermissionError:
    raise UserError(f"{file} may not be read; chmod +r {file}") from None


def _cut(
  blocks: Iterator[str], end: re.Pattern[str], blank: bool = False
) -> Iterator[str]:
  """Yields what lies between matches of `end`; blank ones where asked."""
  rest = ""
  for block in blocks:
    rest += block
    start = 0
    for match in end.finditer(rest):
      if match.end() == len(rest):
        break  # the separator may go on in the next block
      if blank or rest[start : match.start()].strip():
        yield rest[start : match.start()]
      start = match.end()
    rest = rest[start:]
  rest = rest.rstrip("\r\n")
  if rest.strip():
    yield rest
