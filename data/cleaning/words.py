"""Words of any script as numbers, found and counted without a Python loop.

In most scripts a word is a run of characters between spaces. Chinese, Japanese,
Thai, Lao, Khmer and Burmese have no spaces between words, and finding the words
takes a dictionary; here each of their characters is a token. Where a rule
counts words, `HALF` says that two such characters are one: a Chinese word has
about 1.6 of them in running text, function words included. For the alphabets
among these scripts, Thai to Khmer, it counts twice too many.
"""

import functools
import sys
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8, UInt64

HALF = 0.5  # of a word: one character of a script without spaces

# Classes of characters; from _DIGIT on a character belongs to a word.
_SPACE, _MARK, _DIGIT, _LETTER, _UNSPACED = range(5)
# First and last characters of the scripts without spaces.
_RANGES = (
  (0x0E01, 0x0EFF),  # Thai, Lao
  (0x1000, 0x109F),  # Burmese
  (0x1780, 0x17D3),  # Khmer
  (0x3005, 0x3007),  # 々〆〇
  (0x3041, 0x30FA),  # Hiragana, Katakana
  (0x30FC, 0x30FF),
  (0x31F0, 0x31FF),  # small Katakana
  (0x3400, 0x4DBF),  # Han
  (0x4E00, 0x9FFF),
  (0xF900, 0xFAFF),
  (0xFF66, 0xFF9D),  # half-width Katakana
  (0x20000, 0x323AF),  # rare Han
)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: invertible modulo 2^64
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


class Words(NamedTuple):
  """The W words of a text, in their order.

  starts, ends: of each word, in characters of the text.
  hashes: equal for equal words.
  unspaced: whether it is one character of a script without spaces.
  has_letter: whether a letter or such a character is in it.
  """

  starts: Int[np.ndarray, " W"]
  ends: Int[np.ndarray, " W"]
  hashes: UInt64[np.ndarray, " W"]
  unspaced: Bool[np.ndarray, " W"]
  has_letter: Bool[np.ndarray, " W"]

  @property
  def lengths(self) -> Int[np.ndarray, " W"]:
    return self.ends - self.starts

  @property
  def weights(self) -> Float64[np.ndarray, " W"]:
    """How much of a word each is."""
    return np.where(self.unspaced, HALF, 1.0)

  @property
  def n_words(self) -> float:
    return float(self.weights.sum())

  @property
  def mostly_unspaced(self) -> bool:
    """Whether most of the text is in scripts without spaces."""
    return 2 * HALF * int(np.count_nonzero(self.unspaced)) > self.n_words


def words(text: str) -> Words:
  """Runs of letters, digits and the marks on them, in lower case.

  Places are those in the lower case of the text's composed form (NFC).
  """
  return _split(unicodedata.normalize("NFC", text).lower(), _DIGIT)


def chunks(text: str) -> Words:
  """Runs between spaces, punctuation included.

  A run of nothing but punctuation beside a character of a script without
  spaces is not one: there it stands for the space.
  """
  return _split(text, _MARK)


def ngrams(
  hashes: UInt64[np.ndarray, " W"], n: int
) -> UInt64[np.ndarray, " M"]:
  """Returns a hash of each n words in a row: M = W - n + 1 of them, or none."""
  m = max(0, len(hashes) - n + 1)
  total = np.zeros(m, np.uint64)
  for i in range(n):
    total *= _BASE
    total += hashes[i : i + m]
  return mix(total)


def hash_of(phrase: str) -> tuple[int, int]:
  """Returns how many words a phrase has, and their hash as an n-gram."""
  hashes = words(phrase).hashes
  n = len(hashes)
  return n, int(ngrams(hashes, n)[0]) if n else 0


def mix(x: UInt64[np.ndarray, " N"]) -> UInt64[np.ndarray, " N"]:
  """Spreads each number's bits over all 64 (Steele et al. 2014, splitmix64)."""
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def codes(text: str) -> UInt64[np.ndarray, " N"]:
  """Returns the code points; lone surrogates are characters like any other."""
  utf32 = text.encode("utf-32-le", "surrogatepass")
  return np.frombuffer(utf32, "<u4").astype(np.uint64)


def _split(text: str, least: int) -> Words:
  """Splits off runs of classes from `least` on, and unspaced characters."""
  points = codes(text)
  kinds = _classes()[points]
  unspaced = kinds == _UNSPACED
  # A zero on either side, so that each has a neighbour.
  inside = np.zeros(len(points) + 2, bool)
  inside[1:-1] = (kinds >= least) & ~unspaced
  starts = np.flatnonzero(unspaced | (inside[1:-1] & ~inside[:-2]))
  ends = np.flatnonzero(unspaced | (inside[1:-1] & ~inside[2:])) + 1
  is_unspaced = unspaced[starts]
  n_letters = _sums(kinds >= _LETTER)
  has_letter = n_letters[ends] > n_letters[starts]
  if least == _MARK and is_unspaced.any():
    n_words = _sums(kinds >= _DIGIT)
    beside = np.zeros(len(points) + 2, bool)
    beside[1:-1] = unspaced
    keep = (n_words[ends] > n_words[starts]) | ~(
      beside[starts] | beside[ends + 1]
    )
    starts, ends = starts[keep], ends[keep]
    is_unspaced, has_letter = is_unspaced[keep], has_letter[keep]
  return Words(
    starts, ends, _hashes(points, starts, ends), is_unspaced, has_letter
  )


def _sums(flags: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " N+1"]:
  """Returns how many flags are set before each place."""
  sums = np.zeros(len(flags) + 1, np.int64)
  np.cumsum(flags, out=sums[1:])
  return sums


def _hashes(
  points: UInt64[np.ndarray, " N"],
  starts: Int[np.ndarray, " W"],
  ends: Int[np.ndarray, " W"],
) -> UInt64[np.ndarray, " W"]:
  """A polynomial in _BASE modulo 2^64 for each word.

  One running sum of points[i] * _BASE**i serves all words: a word's is the
  difference of two, divided by the power where it starts.
  """
  n = len(points)
  sums = np.zeros(n + 1, np.uint64)
  np.cumsum(mix(points + _BASE) * _powers(_BASE, n), out=sums[1:])
  return mix((sums[ends] - sums[starts]) * _powers(_INVERSE, n)[starts])


def _powers(base: np.uint64, n: int) -> UInt64[np.ndarray, " N"]:
  powers = np.full(n, base)
  powers[:1] = 1
  return np.cumprod(powers, out=powers)


@functools.cache
def _classes() -> UInt8[np.ndarray, " characters"]:
  """The class of every character, by the running Python's Unicode."""
  classes = np.full(sys.maxunicode + 1, _MARK, np.uint8)
  for code in _assigned():
    character = chr(code)
    if character.isalpha():
      classes[code] = _LETTER
    elif character.isalnum() or character == "_":
      classes[code] = _DIGIT
    elif character.isspace():
      classes[code] = _SPACE
    elif unicodedata.category(character)[0] == "M":
      classes[code] = _DIGIT  # a vowel sign or accent: within a word
  for first, last in _RANGES:
    classes[first : last + 1] = _UNSPACED
  return classes


def _assigned() -> Iterable[int]:
  """What may be anything but a mark: planes 0 and 1, and the variation signs.

  The Han planes are in _RANGES; the rest is unassigned or private.
  """
  yield from range(0x20000)
  yield from range(0xE0100, 0xE01F0)
