"""Near duplicates by MinHash with banding (Broder 1997; Lee et al. 2022).

The resemblance of two documents is the Jaccard index s of their sets of
shingles, n words in a row. Under a random order of all shingles the first one
of each document is the same with probability s; the firsts under `num_perm`
orders are the signature. Documents are candidates if all `rows` firsts of one
of `bands` bands agree, which has probability 1 - (1 - s^rows)^bands
(Leskovec et al. 2014, section 3.4). A candidate is a duplicate if at least
`threshold` of all firsts agree: the estimate of s, with a standard deviation of
sqrt(s (1 - s) / num_perm).

Words are those of `words.words`: case, spaces and punctuation do not count, and
a character of a script without spaces is a word. A text of fewer than n words
is one shingle; one without words is a duplicate of nothing.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt32, UInt64

from ...errors import UserError
from .words import mix, ngrams, words

_KEY = 8  # bytes of a bucket's hash; `same` has the last word on a collision
# Shingles that are permuted at once: num_perm x 512 numbers stay in a core's
# cache, which is twice as fast as all shingles of a long text at once.
_BLOCK = 512
# What a duplicate that is missed weighs against a candidate that is none. More
# than 1/2, since `same` catches the second; 0.8 splits 112 minima at 0.75 into
# 14 bands of 8, the choice of Penedo et al. 2024 (arXiv:2406.17557).
_MISSED = 0.8


@dataclasses.dataclass(frozen=True)
class Options:
  """How alike is a duplicate, and how hard it is looked for.

  threshold: in (0, 1], the least share of equal minima of a duplicate.
  shingle: n >= 1, words in a shingle.
  num_perm: length of the signature, 4 bytes each.
  bands, rows: bands * rows <= num_perm. 0: those that fit the threshold best
    (`bands_and_rows`).
  seed: of the permutations.
  """

  threshold: float = 0.75
  shingle: int = 5
  num_perm: int = 112
  bands: int = 0
  rows: int = 0
  seed: int = 0

  def __post_init__(self):
    where = "data.opts.minhash"
    if not 0 < self.threshold <= 1:
      raise UserError(
        f"{where}.threshold={self.threshold} must be in (0, 1], a share of"
        " equal minima"
      )
    for key in ("shingle", "num_perm"):
      if getattr(self, key) < 1:
        raise UserError(
          f"{where}.{key}={getattr(self, key)} must be at least 1"
        )
    if self.seed < 0:
      raise UserError(f"{where}.seed={self.seed} must be 0 or positive")
    if min(self.bands, self.rows) < 0 or (self.bands > 0) != (self.rows > 0):
      raise UserError(
        f"{where}.bands={self.bands} and {where}.rows={self.rows} must both be"
        " positive, or both 0 to follow from the threshold"
      )
    if self.bands * self.rows > self.num_perm:
      raise UserError(
        f"{where}.bands={self.bands} times rows={self.rows} is more than"
        f" num_perm={self.num_perm}; lower one of them or set"
        f" num_perm={self.bands * self.rows}"
      )


class MinHash:
  """Signatures of `num_perm` minima, 32 bits each, little-endian."""

  reason = "near duplicate"

  def __init__(self, options: Options):
    self._options = options
    self.bands, self.rows = options.bands, options.rows
    if not self.bands:
      self.bands, self.rows = bands_and_rows(
        options.threshold, options.num_perm
      )
    # x -> a x + b modulo 2^64, a odd: a permutation of the 64-bit numbers.
    # Multiply-shift (Dietzfelbinger et al. 1997): its high bits are the order.
    draws = np.arange(1, 2 * options.num_perm + 1, dtype=np.uint64)
    draws = mix(draws + mix(np.full(1, options.seed, np.uint64)))
    self._a = draws[: options.num_perm, None] | np.uint64(1)
    self._b = draws[options.num_perm :, None]

  def sign(self, texts: Sequence[str]) -> list[bytes]:
    """Returns the minima of each text; b"" for one without words."""
    n = self._options.shingle
    minima = (self.minima(shingles(text, n)) for text in texts)
    return [some.astype("<u4").tobytes() for some in minima]

  def keys(self, signature: bytes) -> list[bytes]:
    if not signature:
      return []
    size = 4 * self.rows
    return [
      hashlib.blake2b(
        signature[band * size : (band + 1) * size],
        digest_size=_KEY,
        salt=band.to_bytes(4, "little"),
      ).digest()
      for band in range(self.bands)
    ]

  def same(self, first: bytes, later: bytes) -> bool:
    return self.resemblance(first, later) >= self._options.threshold

  def resemblance(self, first: bytes, later: bytes) -> float:
    """Returns the share of equal minima, which estimates the Jaccard index."""
    if not first or not later:
      return 0.0
    equal = np.frombuffer(first, "<u4") == np.frombuffer(later, "<u4")
    return int(np.count_nonzero(equal)) / self._options.num_perm

  def minima(self, x: UInt64[np.ndarray, " S"]) -> UInt32[np.ndarray, " K"]:
    """Returns the least of the hashes x, permuted; [] for no hashes."""
    if not len(x):
      return np.empty(0, np.uint32)
    least = np.full(len(self._a), np.iinfo(np.uint64).max)
    for start in range(0, len(x), _BLOCK):
      permuted = self._a * x[start : start + _BLOCK]
      permuted += self._b
      np.minimum(least, permuted.min(axis=1), out=least)
    # The high bits of the least are the least of the high bits.
    return (least >> np.uint64(32)).astype(np.uint32)

  def facts(self) -> dict[str, object]:
    return {"bands": self.bands, "rows": self.rows}


def shingles(text: str, n: int) -> UInt64[np.ndarray, " S"]:
  """Returns a hash of each n words in a row; of all, where there are fewer."""
  hashes = words(text).hashes
  return ngrams(hashes, max(1, min(n, len(hashes))))


def bands_and_rows(threshold: float, num_perm: int) -> tuple[int, int]:
  """Returns the (bands, rows) whose P(candidate | s) fits the threshold best.

  The error is the area under P = 1 - (1 - s^rows)^bands below the threshold and
  over it above, the second weighed by _MISSED and the first by the rest.
  """
  n = 1000  # of midpoints on either side; the areas are smooth
  middle = (np.arange(n) + 0.5) / n
  below, above = threshold * middle, threshold + (1 - threshold) * middle
  best, least = (1, 1), np.inf
  for bands in range(1, num_perm + 1):
    for rows in range(1, num_perm // bands + 1):
      vain = np.mean(1 - (1 - below**rows) ** bands) * threshold
      missed = np.mean((1 - above**rows) ** bands) * (1 - threshold)
      error = _MISSED * missed + (1 - _MISSED) * vain
      if error < least:
        best, least = (bands, rows), error
  return best
