"""Documents as they go through preparation, and what shows their progress."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from ..errors import UserError
from .sources import Document
from .tokenizers.utf8 import to_bytes

_LISTED = pa.schema(
  [("name", pa.string()), ("size", pa.int64()), ("sha256", pa.binary(32))]
)
_BATCH = 1 << 20  # bytes of text that one piece of work takes


class Text(NamedTuple):
  """A document: name, text, UTF-8 size in bytes and sha256 of those bytes."""

  name: str
  text: str
  size: int
  sha256: bytes


Track = Callable[[str, Iterable[Text], int], Iterator[Text]]


def untracked(what: str, texts: Iterable[Text], total: int) -> Iterator[Text]:
  """Yields the texts; the `Track` that shows no progress."""
  del what, total
  yield from texts


def read(documents: Iterable[Document], max_bytes: int = 0) -> Iterator[Text]:
  """Yields the documents up to `max_bytes` (0: all), empty ones too."""
  for name, text in _limited(documents, max_bytes):
    utf8 = to_bytes(text, name)
    yield Text(name, text, len(utf8), hashlib.sha256(utf8).digest())


def listed(texts: Iterable[Text]) -> pa.Table:
  """Returns name, size and sha256 of the texts, in their order.

  About 50 bytes a document, where Python's objects would take some hundred.
  """
  rows = (
    pa.record_batch(
      [
        # A file's name need not be text.
        [t.name.encode("utf-8", "backslashreplace").decode() for t in some],
        [text.size for text in some],
        [text.sha256 for text in some],
      ],
      schema=_LISTED,
    )
    for some in batched(texts)
  )
  return pa.Table.from_batches(rows, _LISTED)


def changed() -> UserError:
  return UserError(
    "the documents changed while they were being prepared; run again when"
    " nothing writes to them"
  )


def batched(texts: Iterable[Text]) -> Iterator[list[Text]]:
  """Yields lists of about a megabyte, whose borders the texts alone decide."""
  some: list[Text] = []
  size = 0
  for text in texts:
    some.append(text)
    size += text.size
    if size >= _BATCH:
      yield some
      some, size = [], 0
  if some:
    yield some


def _limited(
  documents: Iterable[Document], max_bytes: int
) -> Iterator[Document]:
  """Yields documents up to `max_bytes` (0: all); the last is cut to fit."""
  left = max_bytes
  for name, text in documents:
    size = len(to_bytes(text, name))
    if max_bytes and size >= left:
      yield Document(name, text.encode()[:left].decode("utf-8", "ignore"))
      return
    left -= size
    yield Document(name, text)
