"""EVALS: what is measured of a trained model.

An entry is a class, one file. What it gets to read is text (`Source`) or the
lines of a JSON Lines file (`Line`); it returns what it found as JSON can hold
it, and shows it as tables.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from ...errors import UserError
from ...registry import Registry
from ..score import Row, Scorer


@dataclasses.dataclass(frozen=True)
class Source:
  """A text, twice: as training packs it, and as it was written.

  Attributes:
    rows: all of its tokens, of one length.
    documents: gives the ids of each document, without specials.
    n_bytes: of UTF-8 in it; may be asked once `rows` are read.
  """

  name: str
  rows: Iterable[Row]
  documents: Callable[[], Iterable[Sequence[int]]]
  n_bytes: Callable[[], int]


class Line(NamedTuple):
  """An object of a JSON Lines file, and where it stands (FILE:LINE)."""

  where: str
  fields: Mapping[str, Any]


class Shown(NamedTuple):
  """A table for people; a caption of "" is none."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  caption: str = ""


class Eval:
  """The contract.

  Attributes:
    field: the field by which a file's lines are known to be for it; "" where
      it reads text.

  Args:
    options: the file's `Options`.
  """

  field: ClassVar[str] = ""

  def __init__(self, options: Any):
    raise NotImplementedError(f"{type(self).__name__} must define __init__")

  def __call__(self, scorer: Scorer, items: Sequence[Any]) -> dict[str, Any]:
    """Measures a model on sources, or on lines.

    Raises:
      UserError: an item that is not as it should be; names it.
    """
    raise NotImplementedError(f"{type(self).__name__} must define __call__")

  def show(self, found: Mapping[str, Any]) -> list[Shown]:
    """What it found, for people."""
    raise NotImplementedError(f"{type(self).__name__} must define show")


EVALS = Registry(
  "evaluation",
  "--tasks",
  __name__,
  {
    "perplexity": "perplexity:Perplexity",
    "multiple_choice": "multiple_choice:MultipleChoice",
    "exact_match": "exact_match:ExactMatch",
  },
  word="ablax eval {key}={name}",
)


def read_lines(file: pathlib.Path) -> list[Line]:
  """The objects of a JSON Lines file; blank lines are left out.

  Raises:
    UserError: there is no such file, no object, or a line that is none.
  """
  if not file.is_file():
    raise UserError(f"--file={file}: there is no such file")
  try:
    text = file.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise UserError(
      f"--file={file} is not UTF-8 (byte offset {error.start}); save it as"
      " UTF-8 text"
    ) from None
  found = []
  # Not splitlines: JSON may hold U+2028, which ends no line.
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip():
      continue
    where = f"{file}:{number}"
    try:
      fields = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise UserError(
        f"{where} is not JSON ({error}); write one object a line"
      ) from None
    if not isinstance(fields, dict):
      raise UserError(
        f"{where} is a JSON {type(fields).__name__}, not an object; write one"
        " object a line"
      )
    found.append(Line(where, fields))
  if not found:
    raise UserError(f"--file={file} holds no line; write one object a line")
  return found


def text_of(line: Line, name: str, default: str | None = None) -> str:
  """A field that is text.

  Raises:
    UserError: it is missing and has no default, or is no text.
  """
  value = line.fields.get(name, default)
  if isinstance(value, str):
    return value
  if name in line.fields:
    raise UserError(f"{line.where}: {name}={value!r} must be a text")
  raise UserError(
    f"{line.where} lacks the field {name!r}; its fields are"
    f" {', '.join(line.fields) or 'none'}"
  )


def share(n_right: int, n: int) -> dict[str, float]:
  """A share and its 95 % interval (Wilson 1927)."""
  from scipy.stats import binomtest

  interval = binomtest(n_right, n).proportion_ci(0.95, "wilson")
  return {
    "value": n_right / n,
    "low": float(interval.low),
    "high": float(interval.high),
  }
