"""Documents as they go through preparation, and what shows their progress."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .sources import Document
from .tokenizers.utf8 import to_bytes

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
  """Yields the documents that are not empty, up to `max_bytes` (0: all)."""
  for name, text in _limited(documents, max_bytes):
    utf8 = to_bytes(text, name)
    if utf8:
      yield Text(name, text, len(utf8), hashlib.sha256(utf8).digest())


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
