"""Ranges of the numbers in an entry's `Options`, checked in one line."""

from collections.abc import Callable
from typing import Any

from ..errors import UserError

RANGES: dict[str, Callable[[Any], bool]] = {
  "in [0, 1)": lambda x: 0 <= x < 1,
  "in [0, 1]": lambda x: 0 <= x <= 1,
  "in (0, 1)": lambda x: 0 < x < 1,
  "in (0, 1]": lambda x: 0 < x <= 1,
  "positive": lambda x: x > 0,
  "at least 0": lambda x: x >= 0,
  "at least 1": lambda x: x >= 1,
}


def require(entry: str, options: Any, rule: str, *names: str) -> None:
  """Raises UserError where a named option of `opt.opts.<entry>` breaks it."""
  for name in names:
    value = getattr(options, name)
    if not RANGES[rule](value):
      raise UserError(f"opt.opts.{entry}.{name}={value} must be {rule}")
