"""Words as tokens (Bengio et al. 2003, JMLR 3:1137-1155).

A word that has no id is spelled in bytes. The paper's one symbol for all such
words would make them cheap to predict and impossible to write, and bits per
byte would compare with nothing.
"""

import re
import unicodedata
from collections.abc import Sequence

from .lookup import Lookup, Options

__all__ = ["Options", "Words"]


def _marks() -> str:
  """The combining marks, which Hindi's words are full of: `\\w` has none."""
  ranges: list[list[int]] = []
  for point in range(0x300, 0x20000):  # beyond are ideographs
    if unicodedata.category(chr(point))[0] == "M":
      if ranges and ranges[-1][1] == point - 1:
        ranges[-1][1] = point
      else:
        ranges.append([point, point])
  return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


# Kana and ideographs, which are written without spaces: each is a word.
_ALONE = (
  "\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_INSIDE = f"\\w{_marks()}"
# A space goes with what follows it; the last of several, too.
_STRING = re.compile(
  f"[{_ALONE}]"
  f"| ?(?:(?![{_ALONE}])[{_INSIDE}])+"
  f"| ?[^\\s{_INSIDE}]+"
  r"|\s+(?!\S)|\s+"
)


class Words(Lookup):
  """The most frequent words, runs of punctuation and runs of spaces."""

  @staticmethod
  def cut(text: str) -> Sequence[str]:
    return _STRING.findall(text)
