"""Registries: one config word, one small file.

A registry maps the words of a config to classes or functions, and imports a
file only when its word is asked for. An entry's file has as first docstring
line the technique and its paper, and may have a frozen dataclass `Options`,
whose fields appear in the resolved config under `<namespace>.opts.<entry>`.
"""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar

from .errors import UserError, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class NoOptions:
  """The options of an entry that declares none."""


class Opts(Mapping[str, Any]):
  """Options by name, hashable: the chosen entries', or those of one part."""

  def __init__(self, options: Mapping[str, Any] | None = None):
    self._options = dict(options or {})

  def __getitem__(self, name: str) -> Any:
    return self._options[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._options)

  def __len__(self) -> int:
    return len(self._options)

  def __hash__(self) -> int:
    return hash(tuple(sorted(self._options.items(), key=lambda kv: kv[0])))

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Opts) and self._options == other._options

  def __repr__(self) -> str:
    return f"Opts({self._options})"


class Registry(Mapping[str, Any]):
  """Maps names to entries, each given as "file:attribute" in one package.

  Args:
    kind: what an entry is called in messages and in the catalog ("mixer").
    key: the config key that chooses an entry ("model.mixer").
    package: the package of the entries' files.
    entries: name -> "file:attribute", the file relative to `package`.
    word: how one writes that an entry is chosen.
  """

  def __init__(
    self,
    kind: str,
    key: str,
    package: str,
    entries: Mapping[str, str],
    word: str = "{key}={name}",
  ):
    self.kind = kind
    self.key = key
    self._word = word
    self._package = package
    self._files = dict(entries)
    self._registered: dict[str, Any] = {}

  def __getitem__(self, name: str) -> Any:
    if name in self._registered:
      return self._registered[name]
    self.check(name)
    file, attribute = self._files[name].split(":")
    return getattr(
      importlib.import_module(f"{self._package}.{file}"), attribute
    )

  def __iter__(self) -> Iterator[str]:
    yield from self._files
    yield from self._registered

  def __contains__(self, name: object) -> bool:
    return name in self._files or name in self._registered

  def __len__(self) -> int:
    return len(self._files) + len(self._registered)

  @property
  def own(self) -> tuple[str, ...]:
    """Names of the package's own entries, without those of plugins."""
    return tuple(self._files)

  def check(self, name: str, said: str = "") -> None:
    """Raises UserError for a name that no entry has.

    Args:
      said: what the user wrote, as in "mixer='mamba_2'", where it is an option;
        "": under the registry's own key.
    """
    if name not in self:
      raise UserError(
        f"{said or f'{self.key}={name!r}'} is not a registered {self.kind}"
        f"{nearest(name, self)}"
      )

  def register(self, name: str) -> Callable[[T], T]:
    """Decorator for plugins: `@MIXERS.register("mine")` above the class."""
    if name in self._files:
      raise UserError(
        f"a plugin registers the {self.kind} {name!r}, which ablax has"
        " already; choose another name"
      )

    def add(entry: T) -> T:
      self._registered[name] = entry
      return entry

    return add

  def word(self, name: str) -> str:
    """Returns what chooses the entry, as a user writes it."""
    return self._word.format(key=self.key, name=name)

  def module(self, name: str) -> ModuleType:
    """Returns the module that defines the entry."""
    self.check(name)
    if name in self._files:
      file = self._files[name].split(":")[0]
      return importlib.import_module(f"{self._package}.{file}")
    return sys.modules[self._registered[name].__module__]

  def options(self, name: str) -> type:
    """Returns the entry's frozen `Options` dataclass."""
    return getattr(self.module(name), "Options", NoOptions)

  def citation(self, name: str) -> tuple[str, str]:
    """Returns (technique, paper) from the file's first docstring line."""
    line = (self.module(name).__doc__ or "").strip().split("\n")[0]
    match = re.match(r"^(.*?)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)\.?$", line)
    if match is None:
      return line.rstrip("."), ""
    return match[1].rstrip("."), match[2]
