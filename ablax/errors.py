"""The one exception that means: the user can fix this. Commands exit with 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """One line that names the key, the value, the rule and the fix."""


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns "; did you mean 'x'?" or, with nothing near, what there is."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  if close:
    return f"; did you mean '{close[0]}'?"
  return f"; there is: {', '.join(known)}" if known else ""
