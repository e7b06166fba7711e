"""Gopher's rules of quality and repetition (Rae et al. 2021, arXiv:2112.11446).

The rules are those of appendix A1.1 and table A1. What the paper leaves open:

- A word is what stands between spaces; of scripts without spaces two characters
  are a word (words.py). In a text chiefly of these an n-gram is 2n characters
  long, and the rules on the length of words do not apply.
- Lines are taken without white space at their ends, blank ones left out. A line
  or paragraph is a duplicate if an earlier one is equal.
- Characters are counted without the spaces between words. An n-gram is a
  duplicate if it occurs twice, and all its occurrences count, overlaps once.
- Of the most frequent n-grams the one that comes first counts, if it occurs
  twice.
- The words that a text needs two of are English or, in Chinese, the characters
  的 是 不 了 在 有 和 这; set `stop_words` for other languages.
"""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, UInt64

from ...errors import UserError
from .rules import (
  ELLIPSES,
  Repeats,
  Rules,
  check_least,
  check_off,
  check_shares,
  lines_of,
  paragraphs_of,
  share,
)
from .words import HALF, Words, chunks, hash_of, ngrams, words

_BULLETS = ("•", "‣", "▪", "●", "○", "◦", "·", "*", "-", "–", "—")
_ELLIPSIS = re.compile(r"\.{3,}|…+")

_NAMES = (
  "few words",
  "many words",
  "short words",
  "long words",
  "hash signs",
  "ellipses",
  "bullet lines",
  "ellipsis lines",
  "words without letters",
  "few stop words",
  "duplicate lines",
  "characters in duplicate lines",
  "duplicate paragraphs",
  "characters in duplicate paragraphs",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """The bounds; a document that is at one is kept.

  off: names of rules to leave out ("few words").
  min_words, max_words: of a document.
  min_word_length, max_word_length: the mean, in characters.
  max_hash_signs, max_ellipses: of each, for a word.
  max_bullet_lines, max_ellipsis_lines: share of lines that begin with a bullet
    point, or that end with an ellipsis.
  min_alphabetic: share of words with a letter in them.
  min_stop_words: how many different ones of `stop_words` are to be there; each
    is one word, or one character of a script without spaces.
  max_duplicate_lines, max_duplicate_paragraphs: share of them.
  max_duplicate_line_chars, max_duplicate_paragraph_chars: share of characters.
  top_ngrams: (n, share of characters in the most frequent n-gram).
  duplicate_ngrams: (n, share of characters in n-grams that occur twice).
  """

  off: tuple[str, ...] = ()
  min_words: int = 50
  max_words: int = 100_000
  min_word_length: float = 3.0
  max_word_length: float = 10.0
  max_hash_signs: float = 0.1
  max_ellipses: float = 0.1
  max_bullet_lines: float = 0.9
  max_ellipsis_lines: float = 0.3
  min_alphabetic: float = 0.8
  min_stop_words: int = 2
  stop_words: tuple[str, ...] = (
    *("the", "be", "to", "of", "and", "that", "have", "with"),
    *("的", "是", "不", "了", "在", "有", "和", "这"),
  )
  max_duplicate_lines: float = 0.3
  max_duplicate_paragraphs: float = 0.3
  max_duplicate_line_chars: float = 0.2
  max_duplicate_paragraph_chars: float = 0.2
  top_ngrams: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
  duplicate_ngrams: tuple[tuple[int, float], ...] = (
    *((5, 0.15), (6, 0.14), (7, 0.13)),
    *((8, 0.12), (9, 0.11), (10, 0.1)),
  )

  def __post_init__(self):
    check_off("gopher", self.off, names(self))
    check_least(
      "gopher",
      self,
      0,
      "min_words max_words min_word_length max_word_length max_hash_signs"
      " max_ellipses min_stop_words",
    )
    check_shares(
      "gopher",
      self,
      "max_bullet_lines max_ellipsis_lines min_alphabetic max_duplicate_lines"
      " max_duplicate_paragraphs max_duplicate_line_chars"
      " max_duplicate_paragraph_chars",
    )
    for key in ("top_ngrams", "duplicate_ngrams"):
      for n, bound in getattr(self, key):
        if n < 1 or not 0 <= bound <= 1:
          raise UserError(
            f"data.opts.gopher.{key} has ({n}, {bound}); write (n, share) with"
            " n at least 1 and the share in [0, 1]"
          )
    for word in self.stop_words:
      if hash_of(word)[0] != 1:
        raise UserError(
          f"data.opts.gopher.stop_words has {word!r}, which is not one word,"
          " nor one character of a script without spaces; write one each"
        )
    if self.min_stop_words > len(set(self.stop_words)):
      raise UserError(
        f"data.opts.gopher.min_stop_words={self.min_stop_words} is more than"
        f" the {len(set(self.stop_words))} in stop_words, and would drop every"
        " text; lower it or give more words"
      )


def names(options: Options) -> tuple[str, ...]:
  """Returns the names of the rules, those of n-grams by their n."""
  return (
    *_NAMES,
    *(f"top {n}-gram" for n, _ in options.top_ngrams),
    *(f"duplicate {n}-grams" for n, _ in options.duplicate_ngrams),
  )


class Gopher(Rules):
  """Drops what a mean page of good text is not."""

  family = "gopher"

  def __init__(self, options: Options):
    super().__init__(options)
    hashes = {hash_of(word)[1] for word in options.stop_words}
    self._stop_words = np.array(sorted(hashes), np.uint64)

  def broken(self, text: str) -> Iterator[str]:
    found = chunks(text)
    yield from self._quality(text, found)
    yield from self._repetition(text, found)

  def _quality(self, text: str, found: Words) -> Iterator[str]:
    o = self._options
    if found.n_words < o.min_words:
      yield "few words"
    if found.n_words > o.max_words:
      yield "many words"
    if not found.mostly_unspaced:
      lengths = found.lengths[~found.unspaced]
      length = share(float(lengths.sum()), len(lengths))
      if length < o.min_word_length:
        yield "short words"
      if length > o.max_word_length:
        yield "long words"
    if share(text.count("#"), found.n_words) > o.max_hash_signs:
      yield "hash signs"
    if share(len(_ELLIPSIS.findall(text)), found.n_words) > o.max_ellipses:
      yield "ellipses"
    lines = lines_of(text)
    bullets = sum(line.startswith(_BULLETS) for line in lines)
    if share(bullets, len(lines)) > o.max_bullet_lines:
      yield "bullet lines"
    ellipses = sum(line.endswith(ELLIPSES) for line in lines)
    if share(ellipses, len(lines)) > o.max_ellipsis_lines:
      yield "ellipsis lines"
    with_letters = float(found.weights[found.has_letter].sum())
    if share(with_letters, found.n_words) < o.min_alphabetic:
      yield "words without letters"
    if o.min_stop_words:
      there = np.isin(self._stop_words, ngrams(words(text).hashes, 1))
      if np.count_nonzero(there) < o.min_stop_words:
        yield "few stop words"

  def _repetition(self, text: str, found: Words) -> Iterator[str]:
    o = self._options
    lines = Repeats(lines_of(text))
    if lines.units > o.max_duplicate_lines:
      yield "duplicate lines"
    if lines.chars > o.max_duplicate_line_chars:
      yield "characters in duplicate lines"
    paragraphs = Repeats(paragraphs_of(text))
    if paragraphs.units > o.max_duplicate_paragraphs:
      yield "duplicate paragraphs"
    if paragraphs.chars > o.max_duplicate_paragraph_chars:
      yield "characters in duplicate paragraphs"
    longer = round(1 / HALF) if found.mostly_unspaced else 1
    for n, bound in o.top_ngrams:
      is_top = _most_frequent(ngrams(found.hashes, n * longer))
      if _covered(found, is_top, n * longer) > bound:
        yield f"top {n}-gram"
    # What duplicate n-grams cover, those of any smaller n cover too: where that
    # was no more than the bound, n need not be tried.
    least = 1.0
    for n, bound in sorted(o.duplicate_ngrams):
      if least > bound:
        occurs_twice = _duplicate(ngrams(found.hashes, n * longer))
        least = _covered(found, occurs_twice, n * longer)
        if least > bound:
          yield f"duplicate {n}-grams"


def _most_frequent(
  hashes: UInt64[np.ndarray, " M"],
) -> Bool[np.ndarray, " M"]:
  """Marks the first of the most frequent values, if it occurs twice."""
  values, counts = np.unique(hashes, return_counts=True)
  if not len(values) or counts.max() < 2:
    return np.zeros(len(hashes), bool)
  first = np.isin(hashes, values[counts == counts.max()]).argmax()
  return hashes == hashes[first]


def _duplicate(hashes: UInt64[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
  """Marks the values that occur twice."""
  values = np.sort(hashes)
  twice = values[1:][values[1:] == values[:-1]]
  if not len(twice):
    return np.zeros(len(hashes), bool)
  at = np.searchsorted(twice, hashes)
  return twice[np.minimum(at, len(twice) - 1)] == hashes


def _covered(found: Words, is_chosen: Bool[np.ndarray, " M"], n: int) -> float:
  """Returns the share of characters in the chosen n-grams, each once."""
  if not is_chosen.any():
    return 0.0
  changes = np.zeros(len(found.starts) + 1, np.int64)
  changes[: len(is_chosen)] += is_chosen
  changes[n : n + len(is_chosen)] -= is_chosen
  inside = np.cumsum(changes)[:-1] > 0
  return share(int(found.lengths[inside].sum()), int(found.lengths.sum()))
