"""Detoxification by word lists (Gehman et al. 2020, arXiv:2009.11462).

A text is dropped for how much of it is in the lists, weighted and per 1,000
words. `max_per_1000=0` and `min_sum=1` drop a text for one entry, as C4 does
(Raffel et al. 2020, arXiv:1910.10683), which also drops what minorities write
about themselves (Dodge et al. 2021, arXiv:2104.08758); a share of the words
tells talking about from talking like.

The lists, and how to write one, are in word_lists.py.
"""

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, UInt64

from ...errors import UserError, nearest
from . import Verdict
from .rules import check_least
from .word_lists import BUILTIN, entries, read
from .words import hash_of, ngrams, words


@dataclasses.dataclass(frozen=True)
class Options:
  """What counts, and how much of it is too much.

  words: files with entries of your own; word_lists.py says how to write one.
    An entry that is there twice counts as the last one says.
  builtin: whether the built-in lists count.
  off: categories that do not count.
  max_per_1000: weight for 1,000 words up to which a text is kept.
  min_sum: weight under which a text is kept, however short.
  """

  words: tuple[str, ...] = ()
  builtin: bool = True
  off: tuple[str, ...] = ()
  max_per_1000: float = 5.0
  min_sum: float = 2.0

  def __post_init__(self):
    check_least("toxicity", self, 0, "max_per_1000 min_sum")


class _Table(NamedTuple):
  """The entries of n words each, by their hashes in rising order."""

  hashes: UInt64[np.ndarray, " E"]
  categories: Int[np.ndarray, " E"]
  weights: Float64[np.ndarray, " E"]


class Toxicity:
  """Looks the words and phrases of all lists up at once, by their hashes."""

  def __init__(self, options: Options):
    self._options = options
    lists = [("", BUILTIN)] if options.builtin else []
    lists += [(path, read(path)) for path in options.words]
    found = [e for path, text in lists for e in entries(text, path)]
    texts = repr([text for _, text in lists])
    self.fingerprint = hashlib.sha256(texts.encode()).hexdigest()
    known = list(dict.fromkeys(entry.category for entry in found))
    for category in options.off:
      if category not in known:
        raise UserError(
          f"data.opts.toxicity.off={category!r} is not a category"
          f"{nearest(category, known)}"
        )
    self._categories = [name for name in known if name not in options.off]
    if not self._categories:
      raise UserError(
        "data.opts.toxicity has no words left to look for; name a file of your"
        " own in words, set builtin=True or leave fewer categories off"
      )
    # Equal entries have equal keys, and the last one stays.
    self._patterns: dict[str, tuple[re.Pattern[str], int, float]] = {}
    phrases: dict[int, dict[int, tuple[int, float]]] = defaultdict(dict)
    for entry in found:
      if entry.category in options.off:
        continue
      category = self._categories.index(entry.category)
      if entry.is_pattern:
        pattern = re.compile(entry.text, re.IGNORECASE)
        self._patterns[entry.text] = pattern, category, entry.weight
      else:
        n, hashed = hash_of(entry.text)
        phrases[n][hashed] = category, entry.weight
    self._tables = {n: _table(known) for n, known in sorted(phrases.items())}

  def judge(self, texts: Sequence[str]) -> list[Verdict]:
    return [Verdict(self._reason(text)) for text in texts]

  def facts(self) -> dict[str, Any]:
    """Returns the number of entries in each category."""
    counts: Counter[int] = Counter()
    for table in self._tables.values():
      counts.update(table.categories.tolist())
    counts.update(category for _, category, _ in self._patterns.values())
    return {
      "entries": {name: counts[i] for i, name in enumerate(self._categories)}
    }

  def sums(self, text: str) -> tuple[dict[str, float], float]:
    """Returns each category's weight in the text, and its number of words.

    An entry within a longer one counts beside it. Words of a phrase may have
    anything but words between them; in scripts without spaces, nothing.
    """
    sums = np.zeros(len(self._categories))
    found = words(text)
    before = np.append(0, np.cumsum(found.lengths))  # characters of words
    for n, table in self._tables.items():
      grams = ngrams(found.hashes, n)
      at = np.searchsorted(table.hashes, grams)
      at = np.minimum(at, len(table.hashes) - 1)
      first = np.flatnonzero(table.hashes[at] == grams)
      last = first + n - 1
      spans = found.ends[last] - found.starts[first]
      is_one_piece = spans == before[last + 1] - before[first]
      at = at[first[is_one_piece | ~found.unspaced[first]]]
      np.add.at(sums, table.categories[at], table.weights[at])
    for pattern, category, weight in self._patterns.values():
      sums[category] += weight * sum(1 for _ in pattern.finditer(text))
    by_name = dict(zip(self._categories, sums.tolist(), strict=True))
    return by_name, found.n_words

  def _reason(self, text: str) -> str:
    sums, n_words = self.sums(text)
    total = sum(sums.values())
    if not total or total < self._options.min_sum:
      return ""
    # Patterns may find what is no word: then there is nothing to be a share of.
    if n_words and 1000 * total / n_words <= self._options.max_per_1000:
      return ""
    return f"toxicity: {max(sums, key=sums.__getitem__)}"


def _table(known: dict[int, tuple[int, float]]) -> _Table:
  hashes = sorted(known)
  return _Table(
    np.array(hashes, np.uint64),
    np.array([known[h][0] for h in hashes]),
    np.array([known[h][1] for h in hashes]),
  )
