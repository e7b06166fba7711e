"""Config files and plugins: found, imported, and named on a command line."""

import hashlib
import importlib.util
import inspect
import pathlib
import sys
import traceback
from types import ModuleType
from typing import Any

from ..errors import UserError, nearest


def find_file(path: str) -> pathlib.Path:
  """The config file at `path`, or among the packaged `ablax.configs`."""
  here = pathlib.Path(path).expanduser()
  root = pathlib.Path(__file__).resolve().parent.parent
  packaged = root / "configs" / path.removeprefix("configs/")
  for file in (here, packaged):
    if file.is_file():
      return file
  known = [
    "configs/" + f.relative_to(root / "configs").as_posix()
    for f in (root / "configs").rglob("*.py")
  ]
  raise UserError(f"no config file {path!r}{nearest(path, known)}")


def split_argument(path: str) -> tuple[str, str]:
  """FILE.py:ARGUMENT in its two parts; an ARGUMENT is for get_config."""
  file, colon, argument = path.partition(".py:")
  return (f"{file}.py", argument) if colon else (path, "")


def config_of(module: ModuleType, path: pathlib.Path, argument: str) -> Any:
  """What the file's get_config() returns, or get_config(ARGUMENT)."""
  if not hasattr(module, "get_config"):
    raise UserError(f"{path} has no get_config(); see configs/base.py")
  given = (argument,) if argument else ()
  try:
    inspect.signature(module.get_config).bind(*given)
  except TypeError as error:
    fix = f"drop ':{argument}'" if given else f"add one, as in {path}:ARGUMENT"
    raise UserError(f"{path}: get_config(): {error}; {fix}") from error
  try:
    return module.get_config(*given)
  except UserError:
    raise
  except Exception as error:
    raise error_in(path, error) from error


def import_file(path: pathlib.Path, name: str) -> ModuleType:
  """Runs a user's file; what it raises is a `UserError` with its line."""
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise UserError(f"{path} is not a Python file")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  try:
    spec.loader.exec_module(module)
  except UserError:
    raise
  except Exception as error:
    raise error_in(path, error) from error
  return module


def error_in(path: pathlib.Path, error: Exception) -> UserError:
  """What a user's own file raised, in one line with the file's line."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [f.lineno for f in frames if f.filename == str(path)]
  if isinstance(error, SyntaxError):
    lines = [error.lineno]
  where = f"{path}:{lines[-1]}" if lines else f"{path}"
  message = " ".join(str(error).split())
  return UserError(f"{where}: {type(error).__name__}: {message}")


def load_plugins(paths: tuple[str, ...]) -> None:
  """Imports each file once; it registers its entries as it is imported."""
  for path in paths:
    file = pathlib.Path(path)
    if not file.is_file():
      raise UserError(f"plugins: there is no file {path}")
    # The name holds the folder, so that two files of one name both load.
    tag = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"_ablax_plugin_{file.stem}_{tag}"
    if name not in sys.modules:
      try:
        import_file(file, name)
      except BaseException:
        sys.modules.pop(name, None)
        raise


def split_args(argv: list[str]) -> tuple[str, dict[str, str], list[str]]:
  """Takes `--config=F` and `--config.a.b=v` out of a command line.

  Returns:
    The config's path ("" where absent), the overrides, the other arguments.
  """
  path, overrides, rest = "", {}, []
  words = list(argv)
  while words:
    word = words.pop(0)
    if not (word == "--config" or word.startswith(("--config=", "--config."))):
      rest.append(word)
      continue
    key, equals, value = word.removeprefix("--").partition("=")
    if not equals:
      if not words:
        raise UserError(f"{word} needs a value: {word}=VALUE")
      value = words.pop(0)
    if key == "config":
      path = value
    else:
      overrides[key.removeprefix("config.")] = value
  return path, overrides, rest
