"""A local Hugging Face dataset (Lhoest et al. 2021, arXiv:2109.02846).

    data.source=hf data.opts.hf.folder=FOLDER

FOLDER is what `hf download --repo-type=dataset --local-dir=FOLDER` leaves, or
what `save_to_disk` writes. Which files are which split is the library's to
say: it knows the card's `configs` and the conventions of names. The rows of
Parquet and JSON Lines are read here, one column of them. Nothing is ever
fetched.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ...errors import UserError, nearest
from . import Document, Source, files

_COLUMN = "data.opts.hf.column"
_SAVED = ("state.json", "dataset_dict.json")  # marks of save_to_disk
_CARDS = ("README.md", ".huggingface.yaml")
# The library's .json holds lines, too; in a folder of text it is any document.
_ROWS = {".json": files.json_lines, **files.ROWS}
_YAML = re.compile(r"\s*---\r?\n(.*?)\r?\n---", re.DOTALL)  # atop a card
_BATCH = 1024  # rows of a saved table that are held at a time


@dataclasses.dataclass(frozen=True)
class Options:
  """Which folder, and what of it.

  folder: on this machine; `~` is your home.
  config_name: of the folder's subsets; "": its default one.
  split: one of the subset's, whole.
  column: that holds the text; null is no text.
  """

  folder: str = ""
  config_name: str = ""
  split: str = "train"
  column: str = "text"


class HF(Source):
  """The documents of a split, in the order of its files, named "FILE#row"."""

  argument: ClassVar[str] = "folder"

  def __init__(self, options: Options):
    folder = pathlib.Path(options.folder).expanduser().resolve()
    if not options.folder or not folder.is_dir():
      raise UserError(
        f"data.opts.hf.folder={options.folder!r} is not a folder on this"
        " machine; where there is network, run: hf download NAME"
        " --repo-type=dataset --local-dir=FOLDER"
      )
    self._options = options
    self._folder = folder
    self._is_saved = any((folder / name).is_file() for name in _SAVED)
    splits: Mapping[str, Any] = (
      self._saved() if self._is_saved else self._data_files()
    )
    if options.split not in splits:
      raise UserError(
        f"{folder} has no split {options.split!r}; its splits are"
        f" {', '.join(splits)}: set data.opts.hf.split to one"
      )
    self._split = splits[options.split]

  def documents(self) -> Iterator[Document]:
    for i in range(self.n_pieces()):
      yield from self.piece(i)

  def n_pieces(self) -> int:
    """The files; a saved table is read as one."""
    return 1 if self._is_saved else len(self._split)

  def piece(self, i: int) -> Iterator[Document]:
    if self._is_saved:
      return self._rows_saved()
    file = pathlib.Path(self._split[i])
    name = pathlib.Path(os.path.relpath(file, self._folder)).as_posix()
    read = _ROWS.get(files.format_of(name))
    if read is None:
      raise UserError(
        f"{file} is neither Parquet nor JSON Lines; convert it, as in:"
        f" datasets.load_dataset({str(self._folder)!r},"
        f" split={self._options.split!r}).to_parquet('NEW/train.parquet')"
      )
    return read(name, file, self._options.column, _COLUMN)

  def _rows_saved(self) -> Iterator[Document]:
    column, table = self._options.column, self._split
    schema = table.features.arrow_schema
    files.check_column(str(self._folder), schema, column, _COLUMN)
    number = 0
    for batch in table.with_format("arrow").iter(_BATCH):
      what = f"{self._folder} column {column!r}"
      for text in files.strings(batch.column(column), what, number):
        yield Document(f"{self._options.split}#{number}", text or "")
        number += 1

  def _saved(self) -> Mapping[str, Any]:
    """Returns split -> table, mapped into memory; no name is any split."""
    with _told(self._folder) as datasets:
      saved = datasets.load_from_disk(str(self._folder))
    if isinstance(saved, datasets.DatasetDict):
      return saved
    return {str(saved.split or self._options.split): saved}

  def _data_files(self) -> Mapping[str, list[str]]:
    """Returns split -> paths of its files, as the library finds them."""
    _check_local(self._folder)
    folder, name = str(self._folder), self._options.config_name
    # The library makes a folder for what it might convert; it converts nothing.
    with _told(self._folder) as datasets, tempfile.TemporaryDirectory() as new:
      names = datasets.get_dataset_config_names(folder)
      if name and name not in names:
        raise UserError(
          f"data.opts.hf.config_name={name!r} is not in {folder}"
          f"{nearest(name, names)}"
        )
      if not name and not datasets.get_dataset_default_config_name(folder):
        raise UserError(
          f"{folder} holds {', '.join(names)} and says of none that it is the"
          " default; set data.opts.hf.config_name to one"
        )
      builder = datasets.load_dataset_builder(
        folder, name or None, cache_dir=new
      )
    found = builder.config.data_files
    return {str(split): list(names) for split, names in found.items()}


@contextlib.contextmanager
def _told(folder: pathlib.Path) -> Iterator[Any]:
  """Gives the library, and turns what it says of a folder into one line."""
  try:
    import datasets
  except ImportError:
    raise UserError(
      "data.source=hf needs the package datasets; pip install datasets"
    ) from None
  try:
    yield datasets
  except UserError:
    raise
  except Exception as error:  # a broken folder breaks it in any way
    said = " ".join(str(error).split())[:300]
    raise UserError(
      f"data.opts.hf.folder={str(folder)!r} cannot be read as a dataset"
      f" ({said}); it must hold Parquet or JSON Lines files"
    ) from error


def _check_local(folder: pathlib.Path) -> None:
  """Raises where a card names files elsewhere: the library would fetch them."""
  for card in (folder / name for name in _CARDS):
    url = re.search(r'"(\w+://[^"]*)"', json.dumps(_configs(card), default=str))
    if url:
      raise UserError(
        f"{card} names {url[1]}, which needs the network; download it into the"
        " folder and name it there"
      )


def _configs(card: pathlib.Path) -> Any:
  """Returns what a card says of its subsets; None where it has no such part."""
  import yaml

  try:
    text = card.read_text(encoding="utf-8")
    if card.suffix == ".md":
      block = _YAML.match(text)
      text = block[1] if block else ""
    values = yaml.safe_load(text)
  except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
    return None  # what is wrong with it, the library says
  return values.get("configs") if isinstance(values, dict) else None
