"""Plain values of a config: names and types, against the defaults' own."""

import ast
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError, nearest


def check_keys(values: dict, defaults: Mapping, prefix: str = "") -> None:
  """Brings a config file's tree to the names and types of the base's."""
  for key, value in values.items():
    if key == "opts" and prefix:
      _check_opts(value, f"{prefix}opts")
      continue
    if key not in defaults:
      raise UserError(
        f"{prefix}{key} is not a config key"
        f"{nearest(prefix + key, all_keys(defaults, prefix))}"
      )
    if not isinstance(defaults[key], Mapping):
      values[key] = convert(value, defaults[key], f"{prefix}{key}")
    elif isinstance(value, dict):
      check_keys(value, defaults[key], f"{prefix}{key}.")
    else:
      raise UserError(
        f"{prefix}{key}={value!r} is not a value but a namespace; set its"
        f" keys, as in {all_keys(defaults[key], f'{prefix}{key}.')[0]}"
      )
  for key in defaults:
    if key not in values:
      raise UserError(f"{prefix}{key} is missing; start from configs/base.py")


def _check_opts(opts: Any, prefix: str) -> None:
  if not isinstance(opts, Mapping) or not all(
    isinstance(options, Mapping) for options in opts.values()
  ):
    raise UserError(
      f"{prefix}={opts!r} must hold entries with their options, as in"
      f" {prefix}.ENTRY = {{'OPTION': value}}"
    )


def all_keys(tree: Mapping, prefix: str = "") -> list[str]:
  keys = []
  for key, value in tree.items():
    if isinstance(value, Mapping):
      keys += all_keys(value, f"{prefix}{key}.")
    else:
      keys.append(prefix + key)
  return keys


def node_of(tree: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
  """Where the last part of a dotted key is to be found, and that part."""
  *path, last = key.split(".")
  for part in path:
    tree = tree.setdefault(part, {})
  return tree, last


def override(values: dict, defaults: dict, key: str, value: Any) -> None:
  *path, last = key.split(".")
  node, default = values, defaults
  for part in path:
    if not isinstance(default.get(part), Mapping):
      break
    node, default = node[part], default[part]
  else:
    if last in default and not isinstance(default[last], Mapping):
      node[last] = convert(value, default[last], key)
      return
  raise UserError(
    f"{key} is not a config key{nearest(key, all_keys(defaults))}"
  )


def set_option(fields: dict, option: str, value: Any, key: str) -> None:
  if option not in fields:
    raise UserError(
      f"{key} is not an option{nearest(option, fields) or '; there is none'}"
    )
  fields[option] = freeze(convert(value, fields[option], key))


def convert(value: Any, like: Any, key: str) -> Any:
  """`value` in the type of `like`; a string is parsed."""

  def wrong() -> UserError:
    return UserError(
      f"{key}={value!r} has the wrong type: it must be"
      f" {_KINDS[type(like)]}, like {like!r}"
    )

  if isinstance(like, str):
    if not isinstance(value, str):
      raise wrong()
    return value
  if isinstance(value, str):
    value = _parse(value, like, wrong)
  if isinstance(like, bool) or isinstance(value, bool):
    if not (isinstance(like, bool) and isinstance(value, bool)):
      raise wrong()
  elif isinstance(like, float):
    if not isinstance(value, int | float):
      raise wrong()
    value = float(value)
  elif isinstance(like, int):
    if not isinstance(value, int):
      raise wrong()
  elif isinstance(like, tuple):
    if not isinstance(value, tuple | list):
      raise wrong()
    value = freeze(value)
    # Elements are as the default's first; an empty default is one of texts.
    first = like[0] if like else ""
    if not all(isinstance(v, type(first)) for v in value):
      raise wrong()
    if isinstance(first, tuple):  # records, such as (regex, factor)
      value = tuple(_record(v, first, key) for v in value)
  return value


def _record(value: tuple, like: tuple, key: str) -> tuple:
  known, rest = value[: len(like)], value[len(like) :]
  may_end = key in _WITH_OPTIONS
  ends = may_end and len(rest) == 1 and isinstance(rest[0], Mapping)
  if len(known) < len(like) or (rest and not ends):
    more = ", and may end with a dict of options" if may_end else ""
    raise UserError(
      f"{key}: {value!r} must have {len(like)} elements, like {like!r}{more}"
    )
  converted = (convert(a, b, key) for a, b in zip(known, like, strict=True))
  return (*converted, *rest)


# The records of these keys may end with options of what their first element
# names; they are checked when that is known.
_WITH_OPTIONS = ("data.mixture",)
_KINDS = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple",
}


def _parse(text: str, like: Any, wrong: Callable[[], UserError]) -> Any:
  if isinstance(like, bool):
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
      raise wrong()
    return words[text.lower()]
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if isinstance(like, tuple):
    if value == text and re.search(r"[\s()]", text):
      return (text,)
    if value == text:  # a,b is short for ("a", "b"), where no text has a comma
      return tuple(part for part in text.split(",") if part)
    return value if isinstance(value, tuple | list) else (value,)
  if isinstance(value, str):
    raise wrong()
  if isinstance(like, int) and isinstance(value, float) and value.is_integer():
    return int(value)  # 1e6
  return value


def freeze(value: Any) -> Any:
  if isinstance(value, list | tuple):
    return tuple(freeze(v) for v in value)
  return value


def plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    fields = dataclasses.fields(value)
    return {f.name: plain(getattr(value, f.name)) for f in fields}
  if isinstance(value, Mapping):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [plain(v) for v in value]
  return value
