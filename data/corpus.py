"""The documents of a config: read, cleaned, and split in two sides."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UserError
from .clean import Facts, clean
from .config import DataConfig
from .mixture import shares
from .passes import Decisions
from .sources import SOURCES
from .texts import Text, Track, read, untracked
from .work import ALONE, Workers

_SAMPLE = 4096  # characters of one sample of the tokenizer's training text


class Side(NamedTuple):
  """How much of one source is on one side; bytes of UTF-8."""

  documents: int = 0
  bytes: int = 0


class Corpus:
  """Reads the documents once for their hashes, then again for each use.

  Only hashes are kept. Documents with equal text are on the same side, in
  whichever source they are.

  Args:
    workers: the processes that clean; the result does not depend on them.
    beam: flags of Apache Beam, which then cleans; nor on this.

  Attributes:
    parts: the sources, in the order of the config.
    fingerprints: of each source: a hash of the documents that are kept of it,
      in their order, and of the sides they are on.
    read_sides: of each source, all that was read.
    train_sides, heldout_sides: of each source, what is kept on either side.
    cleaning: what the steps say of each document; None where there are none.
    facts: what the steps say of themselves.

  Raises:
    UserError: there is no text, or too little to hold some out.
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
    self._hashes: list[list[bytes]] = []
    self._sizes: dict[bytes, int] = {}
    self.read_sides: list[Side] = []
    for i, part in enumerate(self.parts):
      hashes, n_bytes = [], 0
      what = f"reading {part.name}"
      for text in track(what, self._read(i), config.max_bytes):
        hashes.append(text.sha256)
        self._sizes[text.sha256] = text.size
        n_bytes += text.size
      if not hashes:
        raise UserError(
          f"data.source={part.name!r} gives no text; point it at files that"
          " hold some"
        )
      self._hashes.append(hashes)
      self.read_sides.append(Side(len(hashes), n_bytes))
    self._is_kept = [bytearray([1]) * len(hashes) for hashes in self._hashes]
    self.cleaning: Decisions | None = None
    self.facts: Facts = {}
    if config.clean:
      self.cleaning, self.facts = self._clean(workers, beam)
    self._split()

  def _clean(
    self, workers: Workers, beam: str | None
  ) -> tuple[Decisions, Facts]:
    decisions, facts = clean(
      self._config,
      lambda: (t for i in range(len(self.parts)) for t in self._kept(i)),
      hashlib.sha256(
        b"".join(h for hs in self._hashes for h in hs)
      ).hexdigest(),
      sum(side.bytes for side in self.read_sides),
      self._track,
      workers,
      beam,
    )
    reasons = iter(decisions.reasons)
    for part, is_kept in zip(self.parts, self._is_kept, strict=True):
      is_kept[:] = (not next(reasons) for _ in is_kept)
      if not any(is_kept):
        raise UserError(
          f"data.clean={self._config.clean} drops every document of"
          f" {part.name!r}; ablax prepare shows why: change a step's options or"
          " leave one out"
        )
    return decisions, facts

  def _split(self) -> None:
    """Chooses the held-out texts of each source, among what is kept."""
    kept = [
      [h for h, is_kept in zip(hashes, flags, strict=True) if is_kept]
      for hashes, flags in zip(self._hashes, self._is_kept, strict=True)
    ]
    self._heldout: set[bytes] = set()
    wanted = self._config.heldout_bytes
    for part, hashes in zip(self.parts, kept, strict=True):
      sizes = Counter()
      for sha256 in hashes:
        sizes[sha256] += self._sizes[sha256]
      self._heldout |= heldout(sizes, wanted, part.name)
    self.train_sides, self.heldout_sides, self.fingerprints = [], [], []
    for part, hashes in zip(self.parts, kept, strict=True):
      sides = [
        [h for h in hashes if (h in self._heldout) == is_heldout]
        for is_heldout in (False, True)
      ]
      train, held = (
        Side(len(side), sum(map(self._sizes.__getitem__, side)))
        for side in sides
      )
      if not train.documents:
        raise UserError(
          f"data.mixture: every document of {part.name!r} is held out with"
          " another source; leave it out"
        )
      self.train_sides.append(train)
      self.heldout_sides.append(held)
      told = b"".join(h + bytes([h in self._heldout]) for h in hashes)
      self.fingerprints.append(hashlib.sha256(told).hexdigest())

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
    n = sum(side.documents for side in self.read_sides)
    cleaning = self.cleaning
    reasons = iter(cleaning.reasons if cleaning else [""] * n)
    notes = iter(cleaning.notes if cleaning else [""] * n)
    for i, hashes in enumerate(self._hashes):
      for sha256 in hashes:
        yield i, self._sizes[sha256], next(reasons), next(notes)

  def _kept(self, part: int) -> Iterator[Text]:
    """Reads a source again, which must be as it was."""
    hashes, is_kept = self._hashes[part], self._is_kept[part]
    n_read = 0
    for n_read, text in enumerate(self._read(part), 1):
      if hashes[n_read - 1 : n_read] != [text.sha256]:
        raise _changed()
      if is_kept[n_read - 1]:
        yield text
    if n_read != len(hashes):
      raise _changed()

  def _read(self, part: int) -> Iterator[Text]:
    return read(self._sources[part].documents(), self._config.max_bytes)


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


def _changed() -> UserError:
  return UserError(
    "the documents changed while they were being prepared; run again when"
    " nothing writes to them"
  )
