"""What one file holds: text, JSON Lines or a Parquet column (pyarrow).

Files are read block by block. What is wrong with one is a `UserError` that
names the file, the place in it and what to do. `column_key`, the config key
that chose the column, is for these messages.
"""

import codecs
import gzip
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import Any

from ...errors import UserError
from . import Document

_BLOCK = 1 << 20  # bytes
_ROWS = 1024  # of Parquet, held at a time
_WHITE = " \t\r\n"  # what documents in a file are cut at
_LFS = b"version https://git-lfs"
_PACKED = {".gz": "gzip", ".zst": "Zstandard"}


def format_of(name: str) -> str:
  """Returns the suffix that tells the format: "a.jsonl.gz" gives ".jsonl"."""
  stem, suffix = os.path.splitext(name.lower())
  return os.path.splitext(stem)[1] if suffix in _PACKED else suffix


def decoded(file: pathlib.Path) -> Iterator[str]:
  """Yields the text of a file block by block; a byte order mark is dropped."""
  decoder = codecs.getincrementaldecoder("utf-8")()
  read = left = 0  # bytes read before this block; of them, not yet decoded
  with _opened(file) as stream:
    while True:
      try:
        block = stream.read(_BLOCK)
      except (EOFError, zlib.error, OSError) as error:
        packed = _PACKED.get(file.suffix.lower())
        if packed is None:
          raise
        raise UserError(
          f"{file} is not a whole {packed} file ({error}); compress it again"
        ) from None
      if (nul := block.find(b"\0")) >= 0:
        raise UserError(
          f"{file} is binary (a NUL byte at offset {read + nul}); leave it"
          " out, or save it as UTF-8 text"
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


def _opened(file: pathlib.Path) -> Any:
  """Returns the stream of a file's bytes, unpacked."""
  try:
    stream = file.open("rb")
  except PermissionError:
    raise UserError(f"{file} may not be read; chmod +r {file}") from None
  if stream.peek(len(_LFS)).startswith(_LFS):
    raise UserError(
      f"{file} is only Git LFS's pointer to the data; run git lfs pull there"
    )
  suffix = file.suffix.lower()
  if suffix == ".gz":
    return gzip.open(stream)
  if suffix == ".zst":
    import pyarrow

    return pyarrow.input_stream(stream, compression="zstd")
  return stream


def cut(
  blocks: Iterator[str], end: re.Pattern[str], blank: bool = False
) -> Iterator[str]:
  """Yields what lies between matches of `end`; blank ones where asked.

  Args:
    end: matches spaces, tabs and line ends alone.
  """
  held: list[str] = []  # of what goes on; looked at once, however long it is
  white = ""  # behind it; a match may begin here and end in a later block
  for block in blocks:
    text = white + block
    solid = len(text.rstrip(_WHITE))
    start = 0
    for match in end.finditer(text, 0, solid):
      piece = "".join([*held, text[start : match.start()]])
      held.clear()
      if blank or piece.strip():
        yield piece
      start = match.end()
    held.append(text[start:solid])
    white = text[solid:]
  rest = ("".join(held) + end.split(white, maxsplit=1)[0]).rstrip("\r\n")
  if rest.strip():
    yield rest


def json_lines(
  name: str, file: pathlib.Path, column: str, column_key: str
) -> Iterator[Document]:
  """Yields one field's text of each line, null as ""; lines count from 1."""
  lines = cut(decoded(file), re.compile(r"\n"), blank=True)
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    where = f"{file}:{number}"
    try:
      row = json.loads(line)
    except (
      ValueError,
      RecursionError,
    ) as error:  # a number of 5000 digits, too
      raise UserError(
        f"{where} is not JSON ({error}); JSON Lines hold one object a line:"
        " mend the line or rename the file to .txt"
      ) from None
    if not isinstance(row, dict):
      raise UserError(
        f"{where} is a JSON {type(row).__name__}, not an object;"
        f' write {{"{column}": "..."}}'
      )
    text = row.get(column, 0)
    if text is not None and not isinstance(text, str):
      has = "no" if column not in row else "no text in its"
      raise UserError(
        f"{where} has {has} field {column!r}; its fields are"
        f" {', '.join(row) or 'none'}: set {column_key} to one"
      )
    yield Document(f"{name}#{number}", text or "")


def parquet(
  name: str, file: pathlib.Path, column: str, column_key: str
) -> Iterator[Document]:
  """Yields one column's texts, null as ""; no other column is read."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise UserError(
      f"reading {file} needs pyarrow; pip install pyarrow"
    ) from None
  with _opened(file) as stream:
    try:
      table = pyarrow.parquet.ParquetFile(stream)
      check_column(str(file), table.schema_arrow, column, column_key)
      number = 0
      for batch in table.iter_batches(_ROWS, columns=[column]):
        for text in strings(
          batch.column(0), f"{file} column {column!r}", number
        ):
          yield Document(f"{name}#{number}", text or "")
          number += 1
    except (pyarrow.ArrowInvalid, OSError) as error:
      raise UserError(
        f"{file} is not a whole Parquet file"
        f" ({str(error).splitlines()[0]}); write it again"
      ) from None


def strings(column: Any, what: str, n_before: int) -> list[str | None]:
  """Returns the texts of a column of Arrow's, whose bytes nobody has checked.

  Args:
    what: the column; for the message.
    n_before: rows of it before these.

  Raises:
    UserError: a row is not UTF-8.
  """
  try:
    return column.to_pylist()
  except UnicodeDecodeError:
    for row, value in enumerate(column, n_before):
      try:
        value.as_py()
      except UnicodeDecodeError as error:
        raise UserError(
          f"{what} row {row} is not UTF-8 (byte offset {error.start}); write it"
          " again from text that is"
        ) from None
    raise


# Suffix -> what reads the rows of such a file.
ROWS = {
  ".jsonl": json_lines,
  ".ndjson": json_lines,
  ".parquet": parquet,
}


def check_column(what: str, schema: Any, column: str, column_key: str) -> None:
  """Raises where `schema` (Arrow's) has no column of that name, or no text.

  Args:
    what: has the column; for the message.
  """
  from pyarrow import types

  columns = ", ".join(schema.names)
  if column not in schema.names:
    raise UserError(
      f"{what} has no column {column!r}; its columns are {columns}: set"
      f" {column_key} to one"
    )
  kind = schema.field(column).type
  kind = kind.value_type if types.is_dictionary(kind) else kind
  if not (types.is_string(kind) or types.is_large_string(kind)):
    raise UserError(
      f"{what} column {column!r} holds {kind}, not strings; set {column_key}"
      f" to one of {columns}"
    )
