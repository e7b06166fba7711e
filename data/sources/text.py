"""Your own files: plain text, JSON Lines or Parquet (files on your disk).

Text and JSON Lines (.jsonl, .ndjson) may be packed, as .gz or .zst.
"""

import dataclasses
import glob
import os
import pathlib
import re
from collections.abc import Iterator
from typing import ClassVar

from ...errors import UserError, nearest
from . import Document, Source, files

_UNITS = ("file", "line", "paragraph")
_COLUMN = "data.opts.text.column"


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
    form = files.format_of(name)
    if form in files.ROWS:
      return files.ROWS[form](name, file, self._options.column, _COLUMN)
    return self._plain(name, file)

  def _plain(self, name: str, file: pathlib.Path) -> Iterator[Document]:
    if self._options.documents == "file":
      yield Document(name, "".join(files.decoded(file)))
      return
    end = r"\r?\n"
    if self._options.documents == "paragraph":
      end = r"\r?\n(?:[ \t]*\r?\n)+"
    texts = files.cut(files.decoded(file), re.compile(end))
    for i, text in enumerate(texts):
      yield Document(f"{name}#{i}", text)


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
