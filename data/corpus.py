"""The documents of a config, split into training and held-out ones."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..errors import UserError
from .config import DataConfig
from .sources import SOURCES, Document
from .tokenizers.utf8 import to_bytes

_SAMPLE = 4096  # characters of one sample of the tokenizer's training text

Track = Callable[[str, Iterable["Text"], int], Iterator["Text"]]


def untracked(
  what: str, texts: Iterable["Text"], total: int
) -> Iterator["Text"]:
  """Yields the texts; the `Track` that shows no progress."""
  del what, total
  yield from texts


class Text(NamedTuple):
  """A document, its UTF-8 size in bytes and the sha256 of those bytes."""

  text: str
  size: int
  sha256: bytes


class Corpus:
  """Reads the documents once for their hashes, then again for each use.

  Only hashes are kept. Documents with equal text are on the same side.

  Attributes:
    options: of the source, as the config or the source's file gives them.
    fingerprint: sha256 of the documents in their order.
    train_bytes, heldout_bytes: UTF-8 bytes on each side.

  Raises:
    UserError: there is no text, or too little to hold some out.
  """

  def __init__(self, config: DataConfig, track: Track = untracked):
    name = config.source
    self.options = config.opts.get(name, SOURCES.options(name)())
    self._config = config
    self._source = SOURCES[name](self.options)
    self._track = track
    self._hashes: list[bytes] = []
    sizes: Counter[bytes] = Counter()
    for text in track("reading", self._read(), config.max_bytes):
      self._hashes.append(text.sha256)
      sizes[text.sha256] += text.size
    if not sizes:
      raise UserError(
        f"data.source={name!r} gives no text; point it at files that hold some"
      )
    self._heldout = heldout(sizes, config.heldout_bytes)
    self.heldout_bytes = sum(sizes[sha256] for sha256 in self._heldout)
    self.train_bytes = sizes.total() - self.heldout_bytes
    self.fingerprint = hashlib.sha256(b"".join(self._hashes)).hexdigest()

  def train(self, what: str) -> Iterator[Text]:
    """Yields the training documents; `what` is shown beside the progress."""
    return self._track(what, self._side(False), self.train_bytes)

  def heldout(self, what: str) -> Iterator[Text]:
    """Yields the held-out documents."""
    return self._track(what, self._side(True), self.heldout_bytes)

  def tokenizer_sample(self) -> Iterator[str]:
    """Yields about `data.tokenizer_bytes` of the training text, evenly."""
    share = min(1.0, self._config.tokenizer_bytes / self.train_bytes)
    n = 0
    for text in self.train("training the tokenizer"):
      for start in range(0, len(text.text), _SAMPLE):
        n += 1
        if int(n * share) > int((n - 1) * share):
          yield text.text[start : start + _SAMPLE]

  def _side(self, is_heldout: bool) -> Iterator[Text]:
    n_read = 0
    for n_read, text in enumerate(self._read(), 1):
      if self._hashes[n_read - 1 : n_read] != [text.sha256]:
        raise _changed()
      if (text.sha256 in self._heldout) == is_heldout:
        yield text
    if n_read != len(self._hashes):
      raise _changed()

  def _read(self) -> Iterator[Text]:
    for name, text in _limited(
      self._source.documents(), self._config.max_bytes
    ):
      utf8 = to_bytes(text, name)
      if utf8:
        yield Text(text, len(utf8), hashlib.sha256(utf8).digest())


def heldout(sizes: Counter[bytes], wanted: int) -> frozenset[bytes]:
  """Chooses held-out documents: the first by hash, until `wanted` bytes.

  The choice depends on the texts alone: no seed, no order. A document that
  would bring the sum to more than twice what is wanted is passed over.

  Args:
    sizes: sha256 of a text -> bytes of all its copies.

  Raises:
    UserError: there is one document, or more than half would be held out.
  """
  if len(sizes) < 2:
    raise UserError(
      "the source gives 1 document, and whole documents are held out; give at"
      " least 2 (data.opts.text.documents='paragraph' makes each paragraph of"
      " a text file one)"
    )
  chosen, total = [], 0
  for sha256 in sorted(sizes):
    if total >= wanted:
      break
    if total + sizes[sha256] <= 2 * wanted:
      chosen.append(sha256)
      total += sizes[sha256]
  if not chosen:
    chosen = [min(sorted(sizes), key=sizes.__getitem__)]
    total = sizes[chosen[0]]
  if 2 * total > sizes.total():
    raise UserError(
      f"data.heldout_bytes={wanted} would hold out {total} of the"
      f" {sizes.total()} bytes there are, more than half; set it to"
      f" {max(1, sizes.total() // 10)} or add text"
    )
  return frozenset(chosen)


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


def _changed() -> UserError:
  return UserError(
    "the documents changed while they were being prepared; run again when"
    " nothing writes to them"
  )
