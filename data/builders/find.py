"""From a TFDS name to its builder, prepared in ArrayRecord, or why not."""

import contextlib
import difflib
import importlib
import io
import pathlib
import re
import shutil
from collections.abc import Collection, Iterator
from typing import Any

from ...errors import UserError, is_disk_full, nearest
from ..cache import cached
from . import CORPORA

FORMAT = "array_record"
KEY = CORPORA.key
_BUCKET = "https://storage.googleapis.com/tfds-data"  # TFDS's own
# TFDS registers the older half of its text sets when these are imported. It
# does so itself after `tensorflow_datasets.audio`, which needs TensorFlow.
_OLDER = (
  "text",
  "summarization",
  "question_answering",
  "translate",
  "text_simplification",
)


def found(name: str, data_dir: pathlib.Path) -> Any:
  """Returns the prepared builder of NAME[/CONFIG][:VERSION].

  Args:
    data_dir: where TFDS keeps, or is to keep, its prepared data sets.

  Raises:
    UserError: the name is not known, or what it needs is not to be had.
  """
  own = re.split("[/:]", name)[0] in CORPORA
  return (_own if own else _theirs)(name, data_dir)


def _own(name: str, data_dir: pathlib.Path) -> Any:
  """Returns the builder of one of CORPORA, prepared whole or not at all."""
  import tensorflow_datasets as tfds

  _ = CORPORA[re.split("[/:]", name)[0]]  # TFDS knows it once it is imported

  def at(folder: pathlib.Path) -> Any:
    with _told(name):
      return tfds.builder(name, data_dir=folder, file_format=FORMAT)

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
      builder.download_and_prepare(file_format=FORMAT)
    except Exception as error:  # a builder is anybody's code
      if is_disk_full(error):
        raise
      why = one_line(error)
      if not isinstance(error, UserError):
        why = f"{type(error).__name__}: {why}"
      raise UserError(
        f"{KEY}={name!r} is not in {data_dir} and cannot be prepared here"
        f" ({why}); where there is network, with TensorFlow installed, run:"
        f" tfds build {name}"
        f" --file_format={FORMAT} --data_dir=DIR, and set"
        " data.opts.tfds.data_dir=DIR"
      ) from error
  return builder


def _check_network(builder: Any) -> None:
  """Raises at once where TFDS would try again and again for minutes."""
  import requests

  urls = [*list(builder.url_infos or ())[:1], builder.info.homepage, _BUCKET]
  urls = [url for url in urls if url.startswith("http")]
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
      f"{KEY}={name!r} is not in {data_dir}, which has {', '.join(there)}"
    )
  known = tfds.list_builders(with_community_datasets=False)
  close = _close(base, [*CORPORA, *known])
  return UserError(
    f"{KEY}={name!r} is not a name of TFDS or ablax, nor in {data_dir}"
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
    why = re.sub(
      r".* builder_kwargs .*?}\": |\. Here are .*", "", one_line(error)
    )
    if "BuilderConfig" in why:
      base, _, config = name.split(":")[0].partition("/")
      configs = tfds.builder_cls(base).builder_configs
      why += nearest(config, _close(config, configs))
    raise UserError(f"{KEY}={name!r} cannot be opened: {why}") from error


def one_line(error: Exception) -> str:
  """Returns what an error says in one line of at most 300 characters."""
  text = " ".join(str(error).split())
  return text if len(text) <= 300 else f"{text[:300]}..."


def _close(word: str, known: Collection[str]) -> list[str]:
  """Returns the nearest of very many words, or none of them."""
  if longer := [name for name in known if name.startswith(word)]:
    return longer[:1]
  return difflib.get_close_matches(word, known, n=1, cutoff=0.5)
