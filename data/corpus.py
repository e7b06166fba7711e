"""The documents of a config: read, cleaned, and split in two sides."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from ..errors import UserError
from .clean import clean, make_steps
from .config import DataConfig
from .mixture import shares
from .sources import SOURCES
from .texts import Text, Track, changed, listed, read, untracked
from .work import ALONE, Workers

_REASONS = 5  # that a message names
_SAMPLE = 4096  # characters of one sample of the tokenizer's training text


class Side(NamedTuple):
  """How much of one source is on one side; bytes of UTF-8."""

  documents: int = 0
  bytes: int = 0


class Corpus:
  """Reads the documents once for their hashes, then again for each use.

  Their text is not kept. Documents with equal text are on the same side, in
  whichever source they are.

  Args:
    workers: the processes that clean; the result does not depend on them.
    beam: flags of Apache Beam, which then lists and cleans; nor on this.

  Attributes:
    parts: the sources, in the order of the config.
    fingerprints: of each source: a hash of the documents that are kept of it,
      in their order, and of the sides they are on.
    read_sides: of each source, all that was read.
    train_sides, heldout_sides: of each source, what is kept on either side.
    cleaning: what the steps say of each document.
    facts: what the steps say of themselves.

  Raises:
    UserError: there is no text, or too little to hold some out. What the
      steps, the tokenizer or Beam cannot work with is told before reading.
  """

  def __init__(
    self,
    config: DataConfig,
    track: Track = untracked,
    workers: Workers = ALONE,
    beam: str | None = None,
  ):
    self.parts = config.parts
    self._config = config
    self._sources = [SOURCES[p.word](p.options) for p in self.parts]
    self._track = track
    steps, self.facts = make_steps(config)
    cluster: Any = None
    if beam is not None:
      from .beam import Beam

      cluster = Beam(config, steps, beam)
    # A row for each document; all that is known of it without its text.
    self._listings: list[pa.Table] = []
    for i, listing in enumerate(
      cluster.listings() if cluster else map(self._list, range(len(self.parts)))
    ):
      if not _side(listing).bytes:
        raise UserError(
          f"data.source={self.parts[i].name!r} gives no text; point it at files"
          " that hold some"
        )
      self._listings.append(listing)
    self.read_sides = [_side(listing) for listing in self._listings]
    self._listing = pa.concat_tables(self._listings)
    self.cleaning = clean(
      config,
      steps,
      lambda: (t for i in range(len(self.parts)) for t in self._again(i)),
      self._listing,
      track,
      workers,
      cluster,
    )
    self._is_kept: list[pa.Array] = []
    end = 0
    for part, listing in zip(self.parts, self._listings, strict=True):
      reasons = self.cleaning.reasons[end : end + len(listing)]
      if all(reasons):
        raise self._nothing_left(part.name, reasons, end)
      self._is_kept.append(pa.array(not reason for reason in reasons))
      end += len(listing)
    self._split()

  def _list(self, part: int) -> pa.Table:
    what = f"reading {self.parts[part].name}"
    return listed(self._track(what, self._read(part), self._config.max_bytes))

  def _nothing_left(self, name: str, reasons: list[str], at: int) -> UserError:
    told = ", ".join(
      f"{n} as {reason!r} (the first: {self._name(at + reasons.index(reason))})"
      for reason, n in Counter(reasons).most_common(_REASONS)
    )
    return UserError(
      f"data.clean={self._config.clean} drops every document of {name!r}:"
      f" {told}; change a step's options or leave one out"
    )

  def _split(self) -> None:
    """Chooses the held-out texts of each source, among what is kept."""
    kept = [
      listing.filter(is_kept)
      for listing, is_kept in zip(self._listings, self._is_kept, strict=True)
    ]
    self._heldout: set[bytes] = set()
    wanted = self._config.heldout_bytes
    for part, listing in zip(self.parts, kept, strict=True):
      sizes = Counter()
      for sha256, size in _hashes(listing):
        sizes[sha256] += size
      self._heldout |= heldout(sizes, wanted, part.name)
    self.train_sides, self.heldout_sides, self.fingerprints = [], [], []
    for part, listing in zip(self.parts, kept, strict=True):
      told = hashlib.sha256()
      is_heldout = []
      for sha256, _ in _hashes(listing):
        is_heldout.append(sha256 in self._heldout)
        told.update(sha256 + bytes([is_heldout[-1]]))
      train, held = (
        _side(listing.filter(pa.array(flag == side for flag in is_heldout)))
        for side in (False, True)
      )
      if not train.documents:
        raise UserError(
          f"data.mixture: every document of {part.name!r} is held out with"
          " another source; leave it out"
        )
      self.train_sides.append(train)
      self.heldout_sides.append(held)
      self.fingerprints.append(told.hexdigest())

  @property
  def train_bytes(self) -> int:
    return sum(side.bytes for side in self.train_sides)

  @property
  def heldout_bytes(self) -> int:
    return sum(side.bytes for side in self.heldout_sides)

  def kept(self, what: str, part: int | None = None) -> Iterator[Text]:
    """Yields the documents of both sides, of one source or of all.

    Args:
      what: is shown beside the progress.
    """
    parts = range(len(self.parts)) if part is None else [part]
    sides = (self.train_sides, self.heldout_sides)
    n_bytes = sum(side[i].bytes for side in sides for i in parts)
    return self._track(what, (t for i in parts for t in self._kept(i)), n_bytes)

  def is_heldout(self, text: Text) -> bool:
    return text.sha256 in self._heldout

  def train(self, what: str, part: int | None = None) -> Iterator[Text]:
    """Yields the training documents, of one source or of all."""
    return (t for t in self.kept(what, part) if not self.is_heldout(t))

  def heldout(self, what: str, part: int | None = None) -> Iterator[Text]:
    """Yields the held-out documents, of one source or of all."""
    return filter(self.is_heldout, self.kept(what, part))

  def tokenizer_sample(self) -> Iterator[str]:
    """Yields about `data.tokenizer_bytes` of the training text, evenly.

    Each source gives its share of the mixture, or all it has.
    """
    sizes = [side.bytes for side in self.train_sides]
    wanted = shares(self._config, sizes)
    for part, size in enumerate(sizes):
      some = wanted[part] * self._config.tokenizer_bytes
      share = min(1.0, some / size)
      n = 0
      for text in self.train("training the tokenizer", part):
        for start in range(0, len(text.text), _SAMPLE):
          n += 1
          if int(n * share) > int((n - 1) * share):
            yield text.text[start : start + _SAMPLE]

  def decisions(self) -> Iterator[tuple[int, int, str, str]]:
    """Yields (source, bytes, reason, note) of every document that was read."""
    said = zip(self.cleaning.reasons, self.cleaning.notes, strict=True)
    for i, listing in enumerate(self._listings):
      for _, size in _hashes(listing):
        yield i, size, *next(said)

  def samples(self) -> dict[str, list[dict[str, str]]]:
    """Returns reason -> name and beginning of the first few that it drops.

    A duplicate's has the name `of` the first one too.
    """
    return {
      reason: [
        {"name": self._name(sample["document"]), "text": sample["text"]}
        | ({"of": self._name(sample["of"])} if "of" in sample else {})
        for sample in samples
      ]
      for reason, samples in self.cleaning.samples.items()
    }

  def _name(self, document: int) -> str:
    return self._listing["name"][document].as_py()

  def _kept(self, part: int) -> Iterator[Text]:
    is_kept = self._is_kept[part].to_pylist()
    return itertools.compress(self._again(part), is_kept)

  def _again(self, part: int) -> Iterator[Text]:
    """Reads a source again, which must be as it was."""
    for known, text in itertools.zip_longest(
      _hashes(self._listings[part]), self._read(part)
    ):
      if known is None or text is None or known[0] != text.sha256:
        raise changed()
      yield text

  def _read(self, part: int) -> Iterator[Text]:
    return read(self._sources[part].documents(), self._config.max_bytes)


def _hashes(listing: pa.Table) -> Iterator[tuple[bytes, int]]:
  """Yields sha256 and size of each document."""
  for batch in listing.to_batches():
    columns = (batch[name].to_pylist() for name in ("sha256", "size"))
    yield from zip(*columns, strict=True)


def _side(listing: pa.Table) -> Side:
  return Side(len(listing), int(listing["size"].to_numpy().sum()))


def heldout(
  sizes: Counter[bytes], wanted: int, name: str = "source"
) -> frozenset[bytes]:
  """Chooses held-out documents: the first by hash, until `wanted` bytes.

  The choice depends on the texts alone: no seed, no order. A document that
  would bring the sum to more than twice what is wanted is passed over.

  Args:
    sizes: sha256 of a text -> bytes of all its copies.
    name: of the source, for messages.

  Raises:
    UserError: there is one document, or more than half would be held out.
  """
  if len(sizes) < 2:
    raise UserError(
      f"data.source={name!r} gives 1 document, and whole documents are held"
      " out; give at least 2 (data.opts.text.documents='paragraph' makes each"
      " paragraph of a text file one)"
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
      f" {sizes.total()} bytes that {name!r} has, more than half; set it to"
      f" {max(1, sizes.total() // 10)} or add text"
    )
  return frozenset(chosen)
