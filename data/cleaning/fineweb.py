"""FineWeb's rules on the shape of lines (Penedo et al. 2024, arXiv:2406.17557).

Those of section 3.6, which the paper adds to the rules of Gopher and C4. Lines
are taken without white space at their ends, blank ones left out. A character of
a script without spaces is as long as three: half a word of six, its space
included.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from .rules import (
  END_MARKS,
  Repeats,
  Rules,
  check_least,
  check_off,
  check_shares,
  lines_of,
  share,
)
from .words import chunks

NAMES = (
  "few lines end with a mark",
  "characters in duplicate lines",
  "short lines",
)
_WIDE = 2  # characters by which an unspaced one is longer than it looks


@dataclasses.dataclass(frozen=True)
class Options:
  """The bounds; as in the paper a document that is at one is dropped.

  off: names of rules to leave out ("short lines").
  min_marked_lines: share of lines that end with a punctuation mark.
  max_duplicate_chars: share of characters in lines that repeat earlier ones.
  max_short_lines: share of lines of fewer than `short_line` characters.
  """

  off: tuple[str, ...] = ()
  min_marked_lines: float = 0.12
  max_duplicate_chars: float = 0.1
  max_short_lines: float = 0.67
  short_line: int = 30

  def __post_init__(self):
    check_off("fineweb", self.off, NAMES)
    check_shares(
      "fineweb", self, "min_marked_lines max_duplicate_chars max_short_lines"
    )
    check_least("fineweb", self, 1, "short_line")


class FineWeb(Rules):
  """Drops lists, menus and boilerplate."""

  family = "fineweb"

  def broken(self, text: str) -> Iterator[str]:
    o = self._options
    lines = lines_of(text)
    marked = sum(line.endswith(END_MARKS) for line in lines)
    if share(marked, len(lines)) <= o.min_marked_lines:
      yield "few lines end with a mark"
    if Repeats(lines).chars >= o.max_duplicate_chars:
      yield "characters in duplicate lines"
    short = sum(self._is_short(line) for line in lines)
    if share(short, len(lines)) >= o.max_short_lines:
      yield "short lines"

  def _is_short(self, line: str) -> bool:
    least = self._options.short_line
    if len(line) >= least:
      return False
    if line.isascii():
      return True
    unspaced = int(np.count_nonzero(chunks(line).unspaced))
    return len(line) + _WIDE * unspaced < least
