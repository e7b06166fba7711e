"""The one exception that means: the user can fix this. Commands exit with 2."""

import difflib
import errno
from collections.abc import Iterable


class UserError(ValueError):
  """One line that names the key, the value, the rule and the fix."""


def at_least(least: int, options: object, *keys: str) -> None:
  """Raises UserError where one of some numeric options is smaller."""
  for key in keys:
    if not (value := getattr(options, key)) >= least:
      raise UserError(f"{key}={value} must be at least {least}")


def is_disk_full(error: BaseException) -> bool:
  """Whether it, or what it came from, says that a disk has no space left."""
  seen: BaseException | None = error
  while seen is not None:
    if getattr(seen, "errno", None) == errno.ENOSPC or any(
      sign in str(seen) for sign in ("No space left", "ENOSPC")
    ):
      return True
    seen = seen.__cause__ or seen.__context__
  return False


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns "; did you mean 'x'?" or, with nothing near, what there is."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  if close:
    return f"; did you mean '{close[0]}'?"
  return f"; there is: {', '.join(known)}" if known else ""
