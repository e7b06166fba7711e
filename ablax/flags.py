"""Command-line flags from dataclasses: a setting is documented in one place."""

import argparse
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from .errors import UserError


class Parser(argparse.ArgumentParser):
  """One whose mistakes are UserErrors, as a command's other ones are."""

  def error(self, message: str) -> NoReturn:
    raise UserError(re.sub(r"^argument (--[\w-]+): ", r"\1: ", message))


def described(settings: type) -> dict[str, str]:
  """Field -> what the docstring's "Attributes:" says, base classes included."""
  found: dict[str, str] = {}
  for cls in reversed(settings.__mro__):
    doc = inspect.cleandoc(cls.__doc__ or "")
    _, _, attributes = doc.partition("\nAttributes:\n")
    # A field stands two columns in, what goes on with it deeper.
    for name, text in re.findall(
      r"^  (\w+): (.*(?:\n    .*)*)", attributes, re.MULTILINE
    ):
      found[name] = " ".join(text.split())
  return found


def add_flags(
  parser: argparse.ArgumentParser,
  title: str,
  settings: type,
  names: Sequence[str],
  files: Sequence[str] = (),
) -> None:
  """Adds a group with one flag for each of the fields `names`.

  Args:
    files: fields whose flag names a file; reading it is the caller's.
  """
  group = parser.add_argument_group(title)
  types = typing.get_type_hints(settings)
  docs, defaults = described(settings), settings()
  for name in names:
    help_ = docs[name].removesuffix(".").replace("%", "%%")
    if default := getattr(defaults, name):
      help_ += f" (default: {default})"
    how: dict[str, Any] = {"metavar": "FILE"}
    if name not in files:
      how = _reads(types[name])
    group.add_argument(
      f"--{name.replace('_', '-')}",
      dest=name,
      # What is not given is not set: a field's default stands in one place.
      default=argparse.SUPPRESS,
      help=help_,
      **how,
    )


def _reads(type_: Any) -> dict[str, Any]:
  """How argparse reads a value of the type."""
  kinds = {type_, *typing.get_args(type_)}
  if typing.get_origin(type_) is Literal:
    return {"choices": typing.get_args(type_)}
  if typing.get_origin(type_) is tuple:
    return {"action": "append", "metavar": "TEXT"}
  if typing.get_origin(type_) in (dict, Mapping):
    ids = typing.get_args(type_)[0] is int
    return {"type": _json_of_ids if ids else _json, "metavar": "JSON"}
  if str in kinds:
    return {"metavar": "TEXT"}
  if float in kinds:
    return {"type": _number, "metavar": "X"}
  assert type_ is int, type_
  return {"type": whole_number, "metavar": "N"}


def whole_number(text: str) -> int:
  try:
    return int(text)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} is not a whole number; write one, such as 2"
    ) from None


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} is not a number; write one, such as 0.5"
    ) from None


def _json(text: str, example: str = '{"name": 1}') -> dict[str, Any]:
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    value = None
  if not isinstance(value, dict):
    raise argparse.ArgumentTypeError(
      f"{text[:40]!r} is not a JSON object; write one, such as {example}"
    )
  return value


def _json_of_ids(text: str) -> dict[Any, Any]:
  """A key that is no number stays text, for the setting to refuse."""
  value = _json(text, '{"5": -1}')
  return {int(k) if k.isdecimal() else k: v for k, v in value.items()}


def with_hyphens(argv: Sequence[str]) -> list[str]:
  """Flags as they are declared: --top_p=1 is --top-p=1."""
  return [
    re.sub(r"^--\w+", lambda flag: flag[0].replace("_", "-"), argument)
    for argument in argv
  ]


def given(arguments: argparse.Namespace, settings: type) -> dict[str, Any]:
  """The fields of `settings` that have a flag among the arguments."""
  fields = [field.name for field in dataclasses.fields(settings)]
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in vars(arguments).items()
    if name in fields
  }
