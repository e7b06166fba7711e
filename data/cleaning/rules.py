"""Filters that are a list of named rules; the first one broken is the reason.

Thresholds come from papers about English web pages: code breaks many of them.
What is asked of words has a meaning in scripts without spaces too (words.py).
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ...errors import UserError, nearest
from . import Verdict

# What ends a sentence: C4's marks, and those of Chinese and of typesetting.
# A full stop inside a closing quotation mark is the usual case.
ELLIPSES = ("...", "…")
END_MARKS = (".", "?", "!", '"', "”", "。", "？", "！", "」", "』", "…")


class Rules:
  """A filter whose subclass says which rules a text breaks.

  Its options have `off`, the names of rules that do not count.

  Attributes:
    family: the name of the step, which begins every reason.
  """

  family: str

  def __init__(self, options: Any):
    self._options = options

  def judge(self, texts: Sequence[str]) -> list[Verdict]:
    off = self._options.off
    found = []
    for text in texts:
      rules = (rule for rule in self.broken(text) if rule not in off)
      rule = next(rules, "")
      found.append(Verdict(f"{self.family}: {rule}" if rule else ""))
    return found

  def broken(self, text: str) -> Iterator[str]:
    """Yields the rules that `text` breaks, in their order, as it finds them."""
    raise NotImplementedError


def check_off(step: str, off: Iterable[str], names: Collection[str]) -> None:
  """Raises UserError where `off` names a rule that the step does not have."""
  for rule in off:
    if rule not in names:
      raise UserError(
        f"data.opts.{step}.off={rule!r} is not a rule{nearest(rule, names)}"
      )


def check_least(step: str, options: Any, least: int, keys: str) -> None:
  """Raises UserError where one of `keys`, with spaces between, is less."""
  for key in keys.split():
    value = getattr(options, key)
    if not value >= least:
      raise UserError(
        f"data.opts.{step}.{key}={value} must be at least {least}"
      )


def check_shares(step: str, options: Any, keys: str) -> None:
  """Raises UserError where one of `keys`, with spaces between, is no share."""
  for key in keys.split():
    value = getattr(options, key)
    if not 0 <= value <= 1:
      raise UserError(
        f"data.opts.{step}.{key}={value} must be a share, in [0, 1]"
      )


def share(part: float | int, whole: float | int) -> float:
  """Returns part / whole; 0 of nothing."""
  return part / whole if whole else 0.0


def lines_of(text: str) -> list[str]:
  """The lines without white space at their ends; blank ones left out."""
  return [line for line in map(str.strip, text.split("\n")) if line]


def paragraphs_of(text: str) -> list[str]:
  """Lines with no blank one between them, as `lines_of` has them, together."""
  found: list[list[str]] = [[]]
  for line in map(str.strip, text.split("\n")):
    if line:
      found[-1].append(line)
    elif found[-1]:
      found.append([])
  return ["\n".join(lines) for lines in found if lines]


class Repeats:
  """How much of `units` repeats an earlier one of them.

  Attributes:
    units: the share of them.
    chars: the share of their characters.
  """

  def __init__(self, units: Sequence[str]):
    seen: set[str] = set()
    again = []
    for unit in units:
      if unit in seen:
        again.append(unit)
      seen.add(unit)
    self.units = share(len(again), len(units))
    self.chars = share(sum(map(len, again)), sum(map(len, units)))
