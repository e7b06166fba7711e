"""TensorFlow Datasets without TensorFlow (TFDS team, tensorflow.org/datasets).

    data.source=tfds
    data.opts.tfds.name=enwiki_excerpt                      # one of CORPORA
    data.opts.tfds.name=wikipedia/20230601.en:train[:1%]    # any TFDS name

A corpus of `data/builders/` is prepared on the spot from the Python package
that holds it. Any other name is read where TFDS has prepared it, in
ArrayRecord, under `data_dir`; failing that TFDS downloads it, where it can.
"""

import dataclasses
import importlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ...errors import UserError
from ..builders import CORPORA
from ..builders.find import FORMAT, KEY, found, one_line
from ..cache import root
from . import Document, Source

# Records that are read at a time. TFDS's own iterator reads one at a time and
# makes arrays of every feature: a third of the speed (benchmarks/sources.py).
_BLOCK = 256
_PIECE = 1 << 14  # records that one machine reads, where many do
# NAME[/CONFIG][:VERSION][:SPLIT]; a version is three numbers or stars.
_NAME = re.compile(r"([^:\s]+(?::[\d*]+\.[\d*]+\.[\d*]+)?)(?::(.+))?")


@dataclasses.dataclass(frozen=True)
class Options:
  """Which prepared data set, and what of it.

  name: NAME[/CONFIG][:VERSION], of data/builders or of TFDS; a split may
    follow, as in "lm1b:test".
  split: in TFDS's notation: "train", "train[:10%]", "train+test[1000:]".
  column: the text feature that is the document; "a/b" is feature b of a.
  data_dir: where TFDS keeps its prepared data sets; "": in the cache.
  """

  name: str = ""
  split: str = "train"
  column: str = "text"
  data_dir: str = ""

  def __post_init__(self):
    if not self.name:
      return
    match = _NAME.fullmatch(self.name)
    if match is None:
      raise UserError(f"{KEY}={self.name!r} is not NAME[/CONFIG][:SPLIT]")
    if match[2] and self.split not in ("train", match[2]):
      raise UserError(
        f"{KEY}={self.name!r} has a split and data.opts.tfds.split is"
        f" {self.split!r}; keep one"
      )
    object.__setattr__(self, "name", match[1])
    object.__setattr__(self, "split", match[2] or self.split)


class TFDS(Source):
  """The documents of a split in its order, named "NAME/SPLIT#i"."""

  argument: ClassVar[str] = "name"

  def __init__(self, options: Options):
    if not options.name:
      raise UserError(
        f"{KEY} is empty; name one of {', '.join(sorted(CORPORA))} or any"
        f" TFDS name, as in --config.{KEY}=lee_news"
      )
    self._name = f"{options.name}/{options.split}"
    self._column = options.column
    data_dir = pathlib.Path(options.data_dir or root() / "tfds").expanduser()
    builder = found(options.name, data_dir)
    _check_column(builder.info.features, options)
    self._folder = builder.data_dir
    self._records = _records(builder, options)

  def documents(self) -> Iterator[Document]:
    yield from self._range(0, len(self._records))

  def n_pieces(self) -> int:
    return max(1, -(-len(self._records) // _PIECE))

  def piece(self, i: int) -> Iterator[Document]:
    end = min((i + 1) * _PIECE, len(self._records))
    yield from self._range(i * _PIECE, end)

  def _range(self, first: int, end: int) -> Iterator[Document]:
    proto: Any = importlib.import_module("tensorflow_datasets.proto")
    parse = proto.tf_example_pb2.Example.FromString
    for start in range(first, end, _BLOCK):
      keys = list(range(start, min(start + _BLOCK, end)))
      for i, record in zip(keys, self._read(keys), strict=True):
        value = parse(record).features.feature[self._column].bytes_list.value
        yield self._document(f"{self._name}#{i}", value[0] if value else b"")

  def _read(self, keys: list[int]) -> list[bytes]:
    """Returns serialised examples, which are never of no bytes."""
    try:
      records = self._records.__getitems__(keys)
      why = "it is cut"
    except RuntimeError as error:
      records, why = [b""], one_line(error)
    # The reader gives b"" for what lies beyond the end of a file that is cut.
    if not all(records):
      raise UserError(
        f"{self._folder} is damaged ({why}); remove it and prepare it again"
      )
    return records

  def _document(self, name: str, utf8: bytes) -> Document:
    try:
      return Document(name, utf8.decode("utf-8"))
    except UnicodeDecodeError as error:
      raise UserError(
        f"{name} is not UTF-8 (byte offset {error.start} of the feature"
        f" {self._column!r}); set data.opts.tfds.column to one that is text"
      ) from None


def _check_column(features: Any, options: Options) -> None:
  """Raises where the features have no text of that name."""
  columns = dict(sorted(_flat(features)))
  texts = [
    name
    for name, feature in columns.items()
    if feature.shape == () and np.dtype(feature.np_dtype).kind == "O"
  ]
  if options.column in texts:
    return
  what = f"{options.name!r} has no column"
  if options.column in columns:
    what = f"{options.name!r} holds no text in the column"
  raise UserError(
    f"{what} {options.column!r}; its columns are {', '.join(columns)}:"
    f" set data.opts.tfds.column to one with text ({', '.join(texts)})"
  )


def _flat(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields (name, feature) of every leaf, named as in the stored records."""
  import tensorflow_datasets as tfds

  for name, feature in features.items():
    if isinstance(feature, tfds.features.FeaturesDict):
      yield from _flat(feature, f"{prefix}{name}/")
    else:
      yield f"{prefix}{name}", feature


def _records(builder: Any, options: Options) -> Any:
  """Returns the split's serialised examples, by index."""
  import tensorflow_datasets as tfds

  formats = {f.value for f in builder.info.available_file_formats()}
  if FORMAT not in formats:
    raise UserError(
      f"{builder.data_dir} is prepared as {', '.join(formats)}, not as"
      f" {FORMAT}; convert it, with TensorFlow installed: tfds convert_format"
      f" --dataset_version_dir={builder.data_dir} --out_file_format={FORMAT}"
    )
  try:
    return builder.as_data_source(
      split=options.split,
      file_format=FORMAT,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
    )
  except ValueError as error:
    raise UserError(
      f"{options.name!r} has no split {options.split!r}; its splits are"
      f" {', '.join(sorted(builder.info.splits))}: set"
      " data.opts.tfds.split to one, or to a part, as in 'train[:10%]'"
    ) from error
