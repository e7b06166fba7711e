"""From a config file and overrides to one frozen, checked `Config`.

    config = load("configs/lm/tiny.py", {"opt.lr": "3e-4"})

Every mistake is a `UserError` before any array is made.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from ..data.config import DataConfig
from ..data.sources import SOURCES
from ..data.tokenizers import TOKENIZERS
from ..errors import UserError, nearest
from ..models.config import ModelConfig
from ..models.ffn import FFNS
from ..models.mixers import MIXERS
from ..models.positions import POSITIONS
from ..parallel.mesh import MeshConfig
from ..registry import Opts, Registry
from .objectives import OBJECTIVES, ObjectiveConfig
from .optimizers import OPTIMIZERS, OptConfig
from .schedules import SCHEDULES


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """When to evaluate, and the samples after training."""

  every: int
  prompts: tuple[str, ...]
  sample_tokens: int
  temperature: float

  def __post_init__(self):
    if self.every < 0:
      raise UserError(
        f"eval.every={self.every} must be positive, or 0 for only at the end"
      )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """When to save and what to keep."""

  every: int
  keep: int
  best: str

  def __post_init__(self):
    if self.every < 0:
      raise UserError(
        f"checkpoint.every={self.every} must be positive, or 0 for only at"
        " the end"
      )
    if self.keep < 1:
      raise UserError(f"checkpoint.keep={self.keep} must be at least 1")


@dataclasses.dataclass(frozen=True)
class LogConfig:
  """What a person sees while it runs."""

  every: int
  progress: bool
  spike: float

  def __post_init__(self):
    if self.every < 1:
      raise UserError(f"log.every={self.every} must be at least 1")


@dataclasses.dataclass(frozen=True)
class Config:
  """A resolved experiment: each component gets its own namespace."""

  seed: int
  steps: int
  plugins: tuple[str, ...]
  init_from: str
  model: ModelConfig
  opt: OptConfig
  data: DataConfig
  objective: ObjectiveConfig
  eval: EvalConfig
  checkpoint: CheckpointConfig
  mesh: MeshConfig
  log: LogConfig

  def __post_init__(self):
    if self.steps < 1:
      raise UserError(f"steps={self.steps} must be at least 1")
    if self.model.max_len < self.data.seq_len:
      raise UserError(
        f"data.seq_len={self.data.seq_len} is longer than the context"
        f" model.max_len={self.model.max_len}; raise model.max_len"
      )
    if self.data.batch_size % self.opt.accum_steps:
      raise UserError(
        f"data.batch_size={self.data.batch_size} is not a multiple of"
        f" opt.accum_steps={self.opt.accum_steps}; use a divisor"
      )
    if self.opt.warmup_steps > self.steps:
      raise UserError(
        f"opt.warmup_steps={self.opt.warmup_steps} is more than"
        f" steps={self.steps}; lower it"
      )

  def as_dict(self) -> dict[str, Any]:
    """Nested plain values, options under `<namespace>.opts.<entry>`."""
    return _plain(self)

  def with_vocab(self, vocab_size: int) -> "Config":
    """The config once the tokenizer's size is known."""
    model = dataclasses.replace(self.model, vocab_size=vocab_size)
    return dataclasses.replace(self, model=model)

  @property
  def hash(self) -> str:
    """Of all that can change a trained number; not of how it is run.

    A plugin counts by its text, not by its path.
    """
    same = {k: v for k, v in self.as_dict().items() if k not in HOW}
    same["plugins"] = [
      pathlib.Path(path).read_text(encoding="utf-8") for path in self.plugins
    ]
    text = json.dumps(same, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


# Namespaces that say how a run is carried out; a resumed run may change them.
HOW = ("mesh", "checkpoint", "log")

NAMESPACES: dict[str, type] = {
  "model": ModelConfig,
  "opt": OptConfig,
  "data": DataConfig,
  "objective": ObjectiveConfig,
  "eval": EvalConfig,
  "checkpoint": CheckpointConfig,
  "mesh": MeshConfig,
  "log": LogConfig,
}


def _choices(c: Mapping[str, Any]) -> Iterator[tuple[str, Registry, str]]:
  """The (namespace, registry, entry) that a config chooses."""
  for mixer in dict.fromkeys(c["model"]["pattern"]):
    yield "model", MIXERS, mixer
  yield "model", POSITIONS, c["model"]["position"]
  yield "model", FFNS, c["model"]["ffn"]
  yield "opt", OPTIMIZERS, c["opt"]["name"]
  yield "opt", SCHEDULES, c["opt"]["schedule"]
  yield "data", SOURCES, c["data"]["source"]
  yield "data", TOKENIZERS, c["data"]["tokenizer"]
  yield "objective", OBJECTIVES, c["objective"]["name"]


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


def _import_file(path: pathlib.Path, name: str):
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
    raise UserError(f"{path}: {type(error).__name__}: {error}") from error
  return module


def load(path: str, overrides: Mapping[str, Any] | None = None) -> Config:
  """Loads a config file by path and resolves it.

  Args:
    path: looked up as it is, then among the packaged configs. A run's
      `config.json` is a config too.
    overrides: dotted key -> value; a string is read as the key's type.
  """
  file = find_file(path)
  if file.suffix == ".json":
    record = json.loads(file.read_text(encoding="utf-8"))
    return from_dict(record["config"], overrides)
  module = _import_file(file, f"_ablax_config_{file.stem}")
  if not hasattr(module, "get_config"):
    raise UserError(f"{file} has no get_config(); see configs/base.py")
  try:
    values = module.get_config()
  except (AttributeError, KeyError, TypeError) as error:
    message = str(error).strip("'\"").splitlines()[0]
    raise UserError(f"{file}: {message}") from error
  return resolve(values, overrides)


def resolve(
  tree: ConfigDict, overrides: Mapping[str, Any] | None = None
) -> Config:
  """Applies overrides, fills in options, checks, and freezes."""
  from ..configs import base

  values: Any = tree.to_dict()
  defaults: Any = base.get_config().to_dict()
  _check_keys(values, defaults)
  overrides = dict(overrides or {})
  for key in [k for k in overrides if ".opts." not in k]:
    _override(values, defaults, key, overrides.pop(key))
  values["plugins"] = tuple(
    str(pathlib.Path(path).expanduser().absolute())
    for path in values["plugins"]
  )
  load_plugins(values["plugins"])

  model = values["model"]
  if mixer := model.pop("mixer"):
    default = tuple(defaults["model"]["pattern"])
    if tuple(model["pattern"]) not in (default, (mixer,)):
      raise UserError(
        f"model.mixer={mixer!r} and model.pattern={tuple(model['pattern'])}"
        " are both set; mixer is short for pattern=(mixer,): keep one"
      )
    model["pattern"] = (mixer,)

  given = {name: values[name].get("opts", {}) for name in NAMESPACES}
  chosen: dict[str, dict[str, Any]] = {name: {} for name in NAMESPACES}
  for namespace, registry, entry in _choices(values):
    options = registry.options(entry)
    fields = {f.name: f.default for f in dataclasses.fields(options)}
    prefix = f"{namespace}.opts.{entry}"
    for option, value in dict(given[namespace].pop(entry, {})).items():
      _set(fields, option, value, f"{prefix}.{option}")
    for key in [k for k in overrides if k.startswith(f"{prefix}.")]:
      option = key.removeprefix(f"{prefix}.")
      _set(fields, option, overrides.pop(key), key)
    chosen[namespace][entry] = options(**fields)
  for namespace, rest in given.items():
    for entry in rest:
      _refuse_option(f"{namespace}.opts.{entry}", chosen)
  for key in overrides:
    _refuse_option(key, chosen)

  parts: dict[str, Any] = {}
  for name, component in NAMESPACES.items():
    fields = {f.name for f in dataclasses.fields(component)}
    part = {k: _freeze(v) for k, v in values[name].items() if k != "opts"}
    if "opts" in fields:
      part["opts"] = Opts(chosen[name])
    parts[name] = component(**part)
  top = {k: _freeze(v) for k, v in values.items() if k not in NAMESPACES}
  return Config(**top, **parts)


def from_dict(
  resolved: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Config:
  """Reads a resolved config back, as `config.json` holds it."""
  values = json.loads(json.dumps(resolved))
  values["model"]["mixer"] = ""
  return resolve(ConfigDict(values, sort_keys=False), overrides)


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
        _import_file(file, name)
      except BaseException:
        sys.modules.pop(name, None)
        raise


def _check_keys(values: Mapping, defaults: Mapping, prefix: str = "") -> None:
  """Compares a config file's tree with the base's: names and types."""
  for key, value in values.items():
    if key == "opts":
      continue
    if key not in defaults:
      raise UserError(
        f"{prefix}{key} is not a config key"
        f"{nearest(prefix + key, _all_keys(defaults, prefix))}"
      )
    if isinstance(defaults[key], Mapping):
      _check_keys(value, defaults[key], f"{prefix}{key}.")
    else:
      _convert(value, defaults[key], f"{prefix}{key}")
  for key in defaults:
    if key not in values:
      raise UserError(f"{prefix}{key} is missing; start from configs/base.py")


def _all_keys(tree: Mapping, prefix: str = "") -> list[str]:
  keys = []
  for key, value in tree.items():
    if isinstance(value, Mapping):
      keys += _all_keys(value, f"{prefix}{key}.")
    else:
      keys.append(prefix + key)
  return keys


def _override(values: dict, defaults: dict, key: str, value: Any) -> None:
  *path, last = key.split(".")
  node, default = values, defaults
  for part in path:
    if not isinstance(default.get(part), Mapping):
      break
    node, default = node[part], default[part]
  else:
    if last in default and not isinstance(default[last], Mapping):
      node[last] = _convert(value, default[last], key)
      return
  raise UserError(
    f"{key} is not a config key{nearest(key, _all_keys(defaults))}"
  )


def _set(fields: dict, option: str, value: Any, key: str) -> None:
  if option not in fields:
    raise UserError(
      f"{key} is not an option{nearest(option, fields) or '; there is none'}"
    )
  fields[option] = _freeze(_convert(value, fields[option], key))


def _refuse_option(key: str, chosen: Mapping[str, Mapping]) -> None:
  namespace, *rest = key.split(".opts.")
  entry = rest[0].split(".")[0] if rest else ""
  if namespace not in chosen:
    raise UserError(f"{key} is not a config key{nearest(namespace, chosen)}")
  names = ", ".join(chosen[namespace]) or "nothing"
  raise UserError(
    f"{key}: {entry!r} is not chosen in this config ({namespace} has {names});"
    " choose it, or drop the option"
  )


def _convert(value: Any, like: Any, key: str) -> Any:
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
    value = _freeze(value)
  return value


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
    if isinstance(value, str):  # a,b is short for ("a", "b")
      return tuple(part for part in text.split(",") if part)
    return value if isinstance(value, tuple | list) else (value,)
  if isinstance(value, str):
    raise wrong()
  if isinstance(like, int) and isinstance(value, float) and value.is_integer():
    return int(value)  # 1e6
  return value


def _freeze(value: Any) -> Any:
  if isinstance(value, list | tuple):
    return tuple(_freeze(v) for v in value)
  return value


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    fields = dataclasses.fields(value)
    return {f.name: _plain(getattr(value, f.name)) for f in fields}
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(v) for v in value]
  return value


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
