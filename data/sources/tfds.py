"""TensorFlow Datasets without TensorFlow (TFDS team, tensorflow.org/datasets).

    data.source=tfds
    data.opts.tfds.name=enwiki_excerpt                      # one of CORPORA
    data.opts.tfds.name=wikipedia/20230601.en:train[:1%]    # any TFDS name

A corpus of `data/builders/` is prepared on the spot from the Python package
that holds it. Any other name is read where TFDS has prepared it, in
ArrayRecord, under `data_dir`; failing that TFDS downloads it, where it can.
"""

import contextlib
import dataclasses
import difflib
import importlib
import io
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np

from ...errors import UserError, is_disk_full, nearest
from ..builders import CORPORA
from ..cache import cached, root
from . import Document

_FORMAT = "array_record"
# Records that are read at a time. TFDS's own iterator reads one at a time and
# makes arrays of every feature: 15 thousand records/s, against 150 thousand.
_BLOCK = 256
_BUCKET = "https://storage.googleapis.com/tfds-data"  # TFDS's own
_KEY = "data.opts.tfds.name"
# NAME[/CONFIG][:VERSION][:SPLIT]; a version is three numbers or stars.
_NAME = re.compile(r"([^:\s]+(?::[\d*]+\.[\d*]+\.[\d*]+)?)(?::(.+))?")
# TFDS registers the older half of its text sets when these are imported. It
# does so itself after `tensorflow_datasets.audio`, which needs TensorFlow.
_OLDER = (
  "text",
  "summarization",
  "question_answering",
  "translate",
  "text_simplification",
)


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
      raise UserError(f"{_KEY}={self.name!r} is not NAME[/CONFIG][:SPLIT]")
    if match[2] and self.split not in ("train", match[2]):
      raise UserError(
        f"{_KEY}={self.name!r} has a split and data.opts.tfds.split is"
        f" {self.split!r}; keep one"
      )
    object.__setattr__(self, "name", match[1])
    object.__setattr__(self, "split", match[2] or self.split)


class TFDS:
  """The documents of a split in its order, named "NAME/SPLIT#i"."""

  argument: ClassVar[str] = "name"

  def __init__(self, options: Options):
    if not options.name:
      raise UserError(
        f"{_KEY} is empty; name one of {', '.join(sorted(CORPORA))} or any"
        f" TFDS name, as in --config.{_KEY}=lee_news"
      )
    self._name = f"{options.name}/{options.split}"
    self._column = options.column
    data_dir = pathlib.Path(options.data_dir or root() / "tfds").expanduser()
    if re.split("[/:]", options.name)[0] in CORPORA:
      builder = _own(options.name, data_dir)
    else:
      builder = _theirs(options.name, data_dir)
    _check_column(builder.info.features, options)
    self._folder = builder.data_dir
    self._records = _records(builder, options)

  def documents(self) -> Iterator[Document]:
    from tensorflow_datasets.proto import tf_example_pb2

    n = len(self._records)
    for start in range(0, n, _BLOCK):
      keys = list(range(start, min(start + _BLOCK, n)))
      for i, record in zip(keys, self._read(keys), strict=True):
        example = tf_example_pb2.Example.FromString(record)
        value = example.features.feature[self._column].bytes_list.value
        yield self._document(f"{self._name}#{i}", value[0] if value else b"")

  def _read(self, keys: list[int]) -> list[bytes]:
    """Returns serialised examples, which are never of no bytes."""
    try:
      records = self._records.__getitems__(keys)
      why = "it is cut"
    except RuntimeError as error:
      records, why = [b""], _line(error)
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


def _own(name: str, data_dir: pathlib.Path) -> Any:
  """Returns the builder of one of CORPORA, prepared whole or not at all."""
  import tensorflow_datasets as tfds

  _ = CORPORA[re.split("[/:]", name)[0]]  # TFDS knows it once it is imported

  def at(folder: pathlib.Path) -> Any:
    with _told(name):
      return tfds.builder(name, data_dir=folder, file_format=_FORMAT)

  def build(new: pathlib.Path) -> None:
    builder = at(new)
    silent = io.StringIO()
    with (
      contextlib.redirect_stdout(silent),
      contextlib.redirect_stderr(silent),
    ):
      builder.download_and_prepare()
    # From new/NAME/VERSION, beside which TFDS leaves an empty downloads/.
    others = list(new.iterdir())
    for file in pathlib.Path(builder.data_dir).iterdir():
      file.rename(new / file.name)
    for other in others:
      shutil.rmtree(other)

  folder = cached(pathlib.Path(at(data_dir).data_dir), build)
  return tfds.builder_from_directory(folder)


def _theirs(name: str, data_dir: pathlib.Path) -> Any:
  """Returns the builder of a name that TFDS knows or has prepared."""
  import tensorflow_datasets as tfds

  for package in _OLDER:
    with contextlib.suppress(ImportError):
      importlib.import_module(f"tensorflow_datasets.{package}")
  try:
    with _told(name):
      builder = tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:
    raise _unknown(name, data_dir) from None
  if not builder.is_prepared():
    try:
      _check_network(builder)
      builder.download_and_prepare(file_format=_FORMAT)
    except Exception as error:  # a builder is anybody's code
      if is_disk_full(error):
        raise
      why = _line(error)
      if not isinstance(error, UserError):
        why = f"{type(error).__name__}: {why}"
      raise UserError(
        f"{_KEY}={name!r} is not in {data_dir} and cannot be prepared here"
        f" ({why}); where there is network, run: tfds build {name}"
        f" --file_format={_FORMAT} --data_dir=DIR, and set"
        " data.opts.tfds.data_dir=DIR"
      ) from error
  return builder


def _check_network(builder: Any) -> None:
  """Raises at once where TFDS would try again and again for minutes."""
  import requests

  urls = [*list(builder.url_infos or ())[:1], builder.info.homepage, _BUCKET]
  for url in urls:
    with contextlib.suppress(requests.RequestException):
      requests.head(url, timeout=10)
      return
  raise UserError(f"it needs the network, and {urls[0]} does not answer")


def _unknown(name: str, data_dir: pathlib.Path) -> UserError:
  import tensorflow_datasets as tfds

  base = re.split("[/:]", name)[0]
  if (data_dir / base).is_dir():
    there = sorted(
      folder.parent.relative_to(data_dir).as_posix()
      for folder in (data_dir / base).rglob("dataset_info.json")
    )
    return UserError(
      f"{_KEY}={name!r} is not in {data_dir}, which has {', '.join(there)}"
    )
  known = tfds.list_builders(with_community_datasets=False)
  close = _close(base, [*CORPORA, *known])
  return UserError(
    f"{_KEY}={name!r} is not a name of TFDS or ablax, nor in {data_dir}"
    f"{nearest(base, close or CORPORA)}"
  )


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
  """Turns what TFDS says of a wrong config, version or file into one line."""
  import tensorflow_datasets as tfds

  try:
    yield
  except tfds.core.DatasetNotFoundError:
    raise
  except Exception as error:  # as many kinds as there are places in TFDS
    why = re.sub(r".* builder_kwargs .*?}\": |\. Here are .*", "", _line(error))
    if "BuilderConfig" in why:
      base, _, config = name.split(":")[0].partition("/")
      configs = tfds.builder_cls(base).builder_configs
      why += nearest(config, _close(config, configs))
    raise UserError(f"{_KEY}={name!r} cannot be opened: {why}") from error


def _line(error: Exception) -> str:
  """Returns what an error says in one line of at most 300 characters."""
  text = " ".join(str(error).split())
  return text if len(text) <= 300 else f"{text[:300]}..."


def _close(word: str, known: Iterable[str]) -> list[str]:
  """Returns the nearest of very many words, or none of them."""
  return difflib.get_close_matches(word, known, n=1, cutoff=0.5)


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
  if _FORMAT not in formats:
    raise UserError(
      f"{builder.data_dir} is prepared as {', '.join(formats)}, not as"
      f" {_FORMAT}; convert it, with TensorFlow installed: tfds convert_format"
      f" --dataset_version_dir={builder.data_dir} --out_file_format={_FORMAT}"
    )
  try:
    return builder.as_data_source(
      split=options.split,
      file_format=_FORMAT,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
    )
  except ValueError as error:
    raise UserError(
      f"{options.name!r} has no split {options.split!r}; its splits are"
      f" {', '.join(sorted(builder.info.splits))}: set data.opts.tfds.split to one, or"
      " to a part, as in 'train[:10%]'"
    ) from error
