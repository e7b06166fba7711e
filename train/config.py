"""From a config file and overrides to one frozen, checked `Config`.

    config = load("configs/lm/tiny.py", {"opt.lr": "3e-4"})

Every mistake is a `UserError` before any array is made.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from ..data.cleaning import CLEANERS
from ..data.config import DataConfig, refuse_text, source_word
from ..data.sources import SOURCES
from ..data.tasks import TASKS
from ..data.tokenizers import TOKENIZERS
from ..errors import UserError, nearest
from ..kernels.device import best_dtype
from ..models.config import Layer, ModelConfig
from ..models.ffn import FFNS
from ..models.matmuls import MATMULS
from ..models.mixers import MIXERS
from ..models.norms import NORMS
from ..models.positions import POSITIONS
from ..models.positions.stretch import stretched
from ..parallel.mesh import MeshConfig
from ..registry import Opts, Registry
from .averages import AVERAGES, check_average
from .config_files import (
  config_of,
  find_file,
  import_file,
  load_plugins,
  split_argument,
)
from .identity import ADDED_LATER, hash_of
from .namespaces import CheckpointConfig, EvalConfig, LogConfig
from .objectives import OBJECTIVES, ObjectiveConfig
from .optimizers import OPTIMIZERS, OptConfig
from .schedules import SCHEDULES
from .values import check_keys, freeze, node_of, override, plain, set_option


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
    if self.seed < 0:
      raise UserError(f"seed={self.seed} must be 0 or positive")
    self.data.check_context(self.model.max_len)
    if self.data.batch_size % self.opt.accum_steps:
      raise UserError(
        f"data.batch_size={self.data.batch_size} is not a multiple of"
        f" opt.accum_steps={self.opt.accum_steps}; use a divisor"
      )
    if self.log.noise_scale and self.opt.accum_steps < 2:
      raise UserError(
        "log.noise_scale=True compares microbatches with the batch, and"
        f" opt.accum_steps={self.opt.accum_steps}; set it to 2 or more"
      )
    if self.opt.warmup_steps > self.steps:
      raise UserError(
        f"opt.warmup_steps={self.opt.warmup_steps} is more than"
        f" steps={self.steps}; lower it"
      )
    self._check_length()
    self._check_ahead()
    self._check_stretch()
    average = self.opt.average
    check_average(average, self.opt.opts[average], self.steps)

  def _check_ahead(self) -> None:
    """Modules of `model.n_ahead` and the objective that trains them."""
    name, n = self.objective.name, self.model.n_ahead
    trains = getattr(OBJECTIVES[name], "predicts_ahead", False)
    if n and not trains:
      raise UserError(
        f"model.n_ahead={n}: objective.name={name!r} trains no modules that"
        " predict further on; use objective.name=multi_token, or"
        " model.n_ahead=0"
      )
    if trains and not n:
      raise UserError(
        f"objective.name={name!r} has nothing to train: model.n_ahead=0; set it"
        " to the tokens to predict besides the next one"
      )

  def _check_stretch(self) -> None:
    """What `eval.stretch` cannot be, or would not change."""
    self.model_at(self.model.max_len)
    of_task = self.data.task_options.lengths if self.data.task else ()
    longest = max((0, *self.data.lengths, *of_task))
    if self.eval.stretch and longest <= self.data.seq_len:
      key = f"opts.{self.data.task}.eval_lengths"
      raise UserError(
        f"eval.stretch={self.eval.stretch!r} is of rows longer than"
        f" data.seq_len={self.data.seq_len}, and none is scored; name lengths"
        f" in data.{key if self.data.task else 'eval_lengths'}, or set it to ''"
      )

  def _check_length(self) -> None:
    """In training no token may tell how long its document will be."""
    for mixer in self.model.mixers:
      word = MIXERS[mixer].position_word(self.model)
      if not word or not POSITIONS[word].of_length:
        continue
      trained = POSITIONS[word](self.model).original_len
      if self.data.seq_len > trained:
        raise UserError(
          f"data.seq_len={self.data.seq_len} is more than"
          f" model.opts.{word}.original_len={trained}, from which on"
          f" model.position={word!r} follows the length of the whole document;"
          f" set model.opts.{word}.original_len={self.data.seq_len}"
        )

  def model_at(self, length: int) -> ModelConfig:
    """The model that scores rows of a length; see `eval.stretch`."""
    if not self.eval.stretch:
      return self.model
    return stretched(self.model, self.eval.stretch, self.data.seq_len, length)

  def as_dict(self) -> dict[str, Any]:
    """Nested plain values, options under `<namespace>.opts.<entry>`."""
    return plain(self)

  def with_vocab(self, vocab_size: int) -> "Config":
    """The config once the tokenizer's size is known."""
    model = dataclasses.replace(self.model, vocab_size=vocab_size)
    return dataclasses.replace(self, model=model)

  @property
  def hash(self) -> str:
    """Of all that can change a trained number; not of how it is run.

    A plugin counts by its text, not by its path.
    """
    return hash_of(self.as_dict())


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
  words = (*c["model"]["first"], *c["model"]["pattern"])
  layers = [Layer.of(word, c["model"]["ffn"]) for word in words]
  for layer in dict.fromkeys(layers):
    yield "model", MIXERS, layer.mixer
    yield "model", FFNS, layer.ffn
  yield "model", POSITIONS, c["model"]["position"]
  yield "model", NORMS, c["model"]["norm"]
  yield "model", MATMULS, c["model"]["matmul"]
  yield "opt", OPTIMIZERS, c["opt"]["name"]
  yield "opt", SCHEDULES, c["opt"]["schedule"]
  yield "opt", AVERAGES, c["opt"]["average"]
  if task := c["data"]["task"]:
    yield "data", TASKS, task
  else:
    parts = c["data"]["mixture"]
    for word in dict.fromkeys(source_word(part[0]) for part in parts):
      yield "data", SOURCES, word
    for step in c["data"]["clean"]:
      yield "data", CLEANERS, step
    yield "data", TOKENIZERS, c["data"]["tokenizer"]
  yield "objective", OBJECTIVES, c["objective"]["name"]


def load(path: str, overrides: Mapping[str, Any] | None = None) -> Config:
  """Loads a config file by path and resolves it.

  Args:
    path: looked up as it is, then among the packaged configs; FILE.py:ARGUMENT
      calls get_config(ARGUMENT). A run's `config.json` is a config too.
    overrides: dotted key -> value; a string is read as the key's type.
  """
  path, argument = split_argument(path)
  file = find_file(path)
  if file.suffix == ".json":
    try:
      values = json.loads(file.read_text(encoding="utf-8"))["config"]
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f"{file} is not the config.json of a run; give that of a workdir, or"
        " a Python file with get_config()"
      ) from error
    return from_dict(values, overrides)
  module = import_file(file, f"_ablax_config_{file.stem}")
  values = config_of(module, file, argument)
  if not isinstance(values, ConfigDict):
    raise UserError(
      f"{file}: get_config() returns {type(values).__name__}, not a ConfigDict;"
      " start from configs/base.py"
    )
  return resolve(values, overrides)


def resolve(
  tree: ConfigDict, overrides: Mapping[str, Any] | None = None
) -> Config:
  """Applies overrides, fills in options, checks, and freezes."""
  from ..configs import base

  values: Any = tree.to_dict()
  defaults: Any = base.get_config().to_dict()
  check_keys(values, defaults)
  overrides = dict(overrides or {})
  for key in [k for k in overrides if ".opts." not in k]:
    override(values, defaults, key, overrides.pop(key))
  values["plugins"] = tuple(
    str(pathlib.Path(path).expanduser().absolute())
    for path in values["plugins"]
  )
  load_plugins(values["plugins"])

  _spread(values, defaults, "model.mixer", "pattern", lambda word: (word,))
  _spread(
    values, defaults, "data.source", "mixture", lambda word: ((word, 1.0, 0.0),)
  )
  if values["data"]["task"]:
    refuse_text(values["data"], defaults["data"])
    # What base.py says there is of text.
    of_task = {("checkpoint", "best"): "loss", ("eval", "prompts"): ()}
    for (name, key), value in of_task.items():
      if values[name][key] == defaults[name][key]:
        values[name][key] = value
  model = values["model"]
  if model["compute_dtype"] == "auto":
    model["compute_dtype"] = best_dtype()
  if model["position"] == "auto":
    words = (*model["first"], *model["pattern"])
    mixers = [Layer.of(word, model["ffn"]).mixer for word in words]
    placed = any(MIXERS[mixer].positional for mixer in mixers)
    model["position"] = "rope" if placed else "none"

  given = {name: values[name].get("opts", {}) for name in NAMESPACES}
  chosen: dict[str, dict[str, Any]] = {name: {} for name in NAMESPACES}
  queue = list(_choices(values))
  for namespace, registry, entry in queue:
    if entry in chosen[namespace]:
      continue
    options = registry.options(entry)
    fields = {f.name: f.default for f in dataclasses.fields(options)}
    prefix = f"{namespace}.opts.{entry}"
    for option, default in fields.items():
      if default is dataclasses.MISSING:
        raise UserError(
          f"{prefix}.{option} has no default; give it one in"
          f" {registry.module(entry).__file__}"
        )
    for option, value in dict(given[namespace].pop(entry, {})).items():
      set_option(fields, option, value, f"{prefix}.{option}")
    for key in [k for k in overrides if k.startswith(f"{prefix}.")]:
      option = key.removeprefix(f"{prefix}.")
      set_option(fields, option, overrides.pop(key), key)
    try:
      chosen[namespace][entry] = options(**fields)
    except UserError as error:
      # Entries may share their Options, which then do not know the whole key.
      first = re.match(r"\w*", str(error))
      if first and first[0] in fields:
        raise UserError(f"{prefix}.{error}") from None
      raise
    # What an entry's own options choose comes with its options too.
    chooses = getattr(chosen[namespace][entry], "chooses", tuple)
    queue.extend((namespace, *choice) for choice in chooses())
  data = values["data"]
  data["mixture"] = tuple(map(_with_own_options, data["mixture"]))
  for namespace, rest in given.items():
    for entry in rest:
      _refuse_option(f"{namespace}.opts.{entry}", chosen)
  for key in overrides:
    _refuse_option(key, chosen)

  parts: dict[str, Any] = {}
  for name, component in NAMESPACES.items():
    fields = {f.name for f in dataclasses.fields(component)}
    part = {k: freeze(v) for k, v in values[name].items() if k != "opts"}
    if "opts" in fields:
      part["opts"] = Opts(chosen[name])
    parts[name] = component(**part)
  top = {k: freeze(v) for k, v in values.items() if k not in NAMESPACES}
  return Config(**top, **parts)


def from_dict(
  resolved: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Config:
  """Reads a resolved config back, as `config.json` holds it."""
  values = json.loads(json.dumps(resolved))
  for key, off in ADDED_LATER.items():
    if ".opts." not in key:  # those have their defaults by themselves
      node, last = node_of(values, key)
      node.setdefault(last, off)
  values.setdefault("model", {})["mixer"] = ""
  values.setdefault("data", {})["source"] = ""
  return resolve(ConfigDict(values, sort_keys=False), overrides)


def _spread(
  values: dict[str, Any],
  defaults: dict[str, Any],
  key: str,
  longer: str,
  meaning: Callable[[str], tuple],
) -> None:
  """Writes a short form, as in `model.mixer`, in the long one it stands for."""
  namespace, short = key.split(".")
  node = values[namespace]
  if not (word := node.pop(short)):
    return
  given, default = freeze(node[longer]), freeze(defaults[namespace][longer])
  if given not in (default, meaning(word)):
    raise UserError(
      f"{key}={word!r} and {namespace}.{longer}={given} are both set; {short}"
      f" is short for {longer}={meaning(word)}: keep one"
    )
  node[longer] = meaning(word)


def _with_own_options(row: tuple) -> tuple:
  """A part of the mixture, its own options as those of `data.opts` are."""
  name, weight, epochs, *own = row
  given = {}
  for option, value in (own[0] if own else {}).items():
    options = SOURCES.options(source_word(name))
    fields = {f.name: f.default for f in dataclasses.fields(options)}
    set_option(fields, option, value, f"data.mixture: {name!r}: {option}")
    given[option] = fields[option]
  # None is as none: the hash of a run is then the same.
  return (name, weight, epochs, Opts(given)) if given else row[:3]


def _refuse_option(key: str, chosen: Mapping[str, Mapping]) -> None:
  namespace, *rest = key.split(".opts.")
  entry = rest[0].split(".")[0] if rest else ""
  if namespace not in chosen:
    raise UserError(f"{key} is not a config key{nearest(namespace, chosen)}")
  if entry in chosen[namespace]:
    raise UserError(f"{key} names no option; add one, as in {key}.OPTION=VALUE")
  names = ", ".join(chosen[namespace]) or "nothing"
  raise UserError(
    f"{key}: {entry!r} is not chosen in this config ({namespace} has {names});"
    " choose it, or drop the option"
  )
