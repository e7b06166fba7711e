"""C4's rules on pages (Raffel et al. 2020, arXiv:1910.10683).

C4 first cuts lines out of a page, then drops pages with too few sentences left.
Here a document is kept or dropped as it is: the lines that C4 would cut do not
count, and stay. Its list of bad words is the step `toxicity`, its search for
repeated passages `minhash`.

C4 finds sentences with a trained splitter, for which here stand marks at the
end of a line or before a space. Chinese marks need no space after them, and a
line's words are counted as in words.py.
"""

import dataclasses
import re
from collections.abc import Iterator

from .rules import (
  ELLIPSES,
  END_MARKS,
  Rules,
  check_least,
  check_off,
  lines_of,
)
from .words import chunks

NAMES = ("curly bracket", "lorem ipsum", "few sentences")
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_POLICIES = (
  "terms of use",
  "privacy policy",
  "cookie policy",
  "uses cookies",
  "use of cookies",
  "use cookies",
)
# A mark, any quotation marks or brackets after it, and the end of a word.
_SENTENCE = re.compile(r"[.?!]+[\"'”’)\]]*(?=\s|$)|[。？！]+")


@dataclasses.dataclass(frozen=True)
class Options:
  """The bounds; a document that is at one is kept.

  off: names of rules to leave out ("curly bracket").
  min_sentences: in lines that end with a mark.
  min_line_words: shorter lines have no sentences.
  max_word_length: in characters; lines with a longer one have no sentences.
  """

  off: tuple[str, ...] = ()
  min_sentences: int = 3
  min_line_words: int = 5
  max_word_length: int = 1000

  def __post_init__(self):
    check_off("c4", self.off, NAMES)
    check_least("c4", self, 0, "min_sentences min_line_words")
    check_least("c4", self, 1, "max_word_length")


class C4(Rules):
  """Drops code, filler and pages without sentences."""

  family = "c4"

  def broken(self, text: str) -> Iterator[str]:
    if "{" in text:
      yield "curly bracket"
    if "lorem ipsum" in text.lower():
      yield "lorem ipsum"
    n_sentences = 0
    for line in lines_of(text):
      if n_sentences >= self._options.min_sentences:
        return
      n_sentences += self._n_sentences(line)
    if n_sentences < self._options.min_sentences:
      yield "few sentences"

  def _n_sentences(self, line: str) -> int:
    """Returns how many sentences a line has; 0 where C4 would cut the line."""
    line = _CITATION.sub("", line)
    if not line.endswith(END_MARKS) or line.endswith(ELLIPSES):
      return 0
    lower = line.lower()
    if "javascript" in lower or any(policy in lower for policy in _POLICIES):
      return 0
    found = chunks(line)
    if found.n_words < self._options.min_line_words:
      return 0
    if found.lengths.max(initial=0) > self._options.max_word_length:
      return 0
    return len(_SENTENCE.findall(line)) or 1  # one that ends with a quotation
