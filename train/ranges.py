"""Ranges of the numbers that a config gives, checked in one line."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UserError

RANGES: dict[str, Callable[[Any], bool]] = {
  "in [0, 1)": lambda x: 0 <= x < 1,
  "in [0, 1]": lambda x: 0 <= x <= 1,
  "in (0, 1)": lambda x: 0 < x < 1,
  "in (0, 1]": lambda x: 0 < x <= 1,
  "positive": lambda x: 0 < x < math.inf,
  "at least 0": lambda x: 0 <= x < math.inf,
  "at least 1": lambda x: 1 <= x < math.inf,
}


def as_computed(value: Any) -> Any:
  """The number that a device makes of it: fp32, without subnormals."""
  if not isinstance(value, float):
    return value
  with np.errstate(over="ignore"):
    rounded = np.float32(value)
  # XLA flushes them on most devices.
  tiny = np.finfo(np.float32).tiny
  return 0.0 if abs(rounded) < tiny else float(rounded)


def broken(rule: str, value: Any) -> str:
  """What a value must be, in words, where it breaks a rule; otherwise ''."""
  computed = as_computed(value)
  if RANGES[rule](computed):
    return ""
  if math.isinf(value):
    return f"must be {rule} and finite"
  if RANGES[rule](value):
    return f"must be {rule}, in float32 too, where it is {computed:g}"
  return f"must be {rule}"


def require(entry: str, options: Any, rule: str, *names: str) -> None:
  """Raises UserError where a named option of `opt.opts.<entry>` breaks it."""
  for name in names:
    value = getattr(options, name)
    if wrong := broken(rule, value):
      raise UserError(f"opt.opts.{entry}.{name}={value} {wrong}")
