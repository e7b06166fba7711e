"""A sweep: the arms of a comparison, each a whole config that was checked.

Each arm's resolved config is compared with the baseline's. What differs must
have been declared: an arm that changes a second thing in silence is refused.
"""

import dataclasses
import functools
import inspect
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ..errors import UserError, nearest
from ..train.config import Config, resolve
from ..train.config_files import (
  config_of,
  error_in,
  find_file,
  import_file,
  split_argument,
)
from ..train.story import flat
from .arms import Space, read_space, slug

_ABSENT = object()
# Keys that the seeds of a sweep set.
SEEDS = ("seed", "data.seed")
# A short form -> what the resolved config has in its place.
_LONG = {"model.mixer": "model.pattern", "data.source": "data.mixture"}


@dataclasses.dataclass(frozen=True)
class Arm:
  """One arm.

  Attributes:
    overrides: of `get_config()`, those of the command line not among them.
    changes: key -> value where its resolved config differs from the baseline;
      without the options, at their defaults, of an entry that it chose.
    solved: what the budget's solver chose of these.
  """

  name: str
  overrides: Mapping[str, Any]
  config: Config
  changes: Mapping[str, Any]
  solved: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
  """All arms of a config file, the baseline first to be compared with.

  Attributes:
    claim: the docstring of the file.
    given: overrides of the command line, common to all arms.
    get_config: gives the base anew at each call.
  """

  name: str
  claim: str
  space: Space
  baseline: str
  arms: tuple[Arm, ...]
  given: Mapping[str, Any]
  get_config: Callable[[], Any]

  def __getitem__(self, name: str) -> Arm:
    return next(arm for arm in self.arms if arm.name == name)

  @property
  def names(self) -> tuple[str, ...]:
    return tuple(arm.name for arm in self.arms)

  def resolve(self, arm: str, overrides: Mapping[str, Any]) -> Config:
    """An arm's config with further overrides."""
    more = {**self.given, **self[arm].overrides, **overrides}
    return resolve(self.get_config(), more)

  def with_solved(self, solved: Mapping[str, Mapping[str, Any]]) -> "Sweep":
    """The sweep with what a budget's solver chose, checked once more."""
    return make_sweep(
      self.name, self.claim, self.get_config, self.space, self.given, solved
    )

  def changed_data(self) -> bool:
    """Whether arms may have other data or another tokenizer."""
    return any(
      key.partition(".")[0] == "data" and key not in SEEDS
      for arm in self.arms
      for key in arm.changes
      if key not in ("data.batch_size", "data.prefetch")
    )


def load_sweep(path: str, given: Mapping[str, Any] | None = None) -> Sweep:
  """Reads `get_config()` and `sweep()` of a file.

  Args:
    path: of the file; as FILE.py:ARGUMENT it is `get_config(ARGUMENT)`.
    given: overrides of the base, for all arms.

  Raises:
    UserError: an arm or axis that can't be, two arms that are the same, one
      that changes nothing, or more than the axes say.
  """
  name, argument = named(path), split_argument(path)[1]
  file = find_file(split_argument(path)[0])
  module = import_file(file, f"_ablax_config_{file.stem}")
  for function in ("get_config", "sweep"):
    if not hasattr(module, function):
      raise UserError(
        f"{file} has no {function}(); see configs/ablations/norm_placement.py"
      )
  try:
    values = module.sweep()
  except UserError:
    raise
  except Exception as error:
    raise error_in(file, error) from error
  get_config = functools.partial(config_of, module, file, argument)
  base = get_config()
  if not isinstance(base, ConfigDict):
    raise UserError(
      f"{file}: get_config() returns {type(base).__name__}, not a ConfigDict;"
      " start from configs/base.py"
    )
  return make_sweep(
    name,
    inspect.cleandoc(module.__doc__ or ""),
    get_config,
    read_space(values),
    given or {},
  )


def make_sweep(
  name: str,
  claim: str,
  get_config: Callable[[], Any],
  space: Space,
  given: Mapping[str, Any],
  solved: Mapping[str, Mapping[str, Any]] | None = None,
) -> Sweep:
  """Resolves and compares the arms of a space.

  Args:
    get_config: gives the base anew at each call.
    solved: arm -> what a budget's solver chose for it.
  """
  if wrong := given.keys() & {*SEEDS}:
    raise UserError(f"{min(wrong)} is set by the sweep's seeds; use --seeds=N")
  spans = space.expand()
  baseline = space.baseline or next(iter(spans))
  if baseline not in spans:
    raise UserError(
      f"sweep(): baseline={baseline!r} is no arm{nearest(baseline, spans)}"
    )
  if space.arms and not space.axes:
    keys = dict.fromkeys(k for arm in space.arms.values() for k in arm)
    raise UserError(
      "sweep(): axes is missing: name the keys in which arms may differ, as in"
      f" axes={tuple(keys)!r}"
    )
  solved = solved or {}
  configs = {}
  dtype = given.get("model.compute_dtype", get_config().model.compute_dtype)
  if dtype == "auto":
    raise UserError(
      "model.compute_dtype='auto' in a sweep: its arms must not depend on the"
      " machine; name a dtype"
    )
  for arm, overrides in spans.items():
    for key in overrides:
      if key in SEEDS:
        raise UserError(
          f"arm {arm!r} sets {key}: seeds are the sweep's own; drop it"
        )
      if key in given:
        raise UserError(
          f"{key} is set by arm {arm!r} and on the command line; drop one"
        )
    try:
      configs[arm] = resolve(
        get_config(), {**given, **overrides, **solved.get(arm, {})}
      )
    except UserError as error:
      raise UserError(f"arm {arm!r}: {error}") from None
  base = configs[baseline]
  for arm, config in configs.items():
    # A process trains runs of several arms: what one loads, all have.
    if config.plugins != base.plugins:
      raise UserError(
        f"arm {arm!r} has plugins={config.plugins} and {baseline!r} has"
        f" {base.plugins}; load the same in all, in get_config()"
      )
  axes = _known_axes(space, configs)
  arms = []
  for arm, config in configs.items():
    changes = _changes(base, config, axes)
    _check_declared(arm, baseline, base, changes, axes)
    chosen = solved.get(arm, {})
    arms.append(Arm(arm, spans[arm], config, changes, chosen))
  _check_distinct(arms, baseline)
  return Sweep(
    name, claim, space, baseline, tuple(arms), dict(given), get_config
  )


def _known_axes(space: Space, configs: Mapping[str, Config]) -> tuple[str, ...]:
  """The axes as the resolved config has them; each must be a key of it."""
  known = {key for c in configs.values() for key in flat(plain(c))}
  spaces = {key.rsplit(".", n)[0] for key in known for n in (1, 2)}
  axes = tuple(_LONG.get(axis, axis) for axis in space.varied)
  for axis in axes:
    if axis not in known | spaces:
      raise UserError(
        f"sweep(): the axis {axis!r} is not a config key{nearest(axis, known)}"
      )
  return axes


def plain(config: Config) -> dict[str, Any]:
  """A config as JSON has it."""
  return json.loads(json.dumps(config.as_dict()))


def _changes(
  base: Config, config: Config, axes: Sequence[str]
) -> dict[str, Any]:
  """Key -> value where a config differs, less what follows from an axis."""
  old, new = flat(plain(base)), flat(plain(config))
  keys = [*new, *(key for key in old if key not in new)]
  return {
    key: new.get(key)
    for key in keys
    if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    and not _follows(key, old, new, axes, config)
  }


def _check_declared(
  arm: str,
  baseline: str,
  base: Config,
  changes: Mapping[str, Any],
  axes: Sequence[str],
) -> None:
  undeclared = [
    key
    for key in changes
    if not any(key == a or key.startswith(f"{a}.") for a in axes)
  ]
  if undeclared:
    old = flat(plain(base))
    said = "; ".join(
      f"{key} ({old.get(key)!r} in {baseline!r}, {changes[key]!r} here)"
      for key in undeclared[:4]
    )
    raise UserError(
      f"arm {arm!r} also changes {said}, which is outside the declared axes"
      f" ({', '.join(axes)}); hold it fixed in get_config(), or add it to axes"
    )


def _follows(
  key: str,
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  axes: Sequence[str],
  config: Config,
) -> bool:
  """Whether it is an option, at its default, of an entry that an axis chose.

  An optimizer brings its own options along; the same entry with another value
  is a change of its own.
  """
  namespace, opts, entry = (*key.split(".")[:3], "", "")[:3]
  if opts != "opts" or not any(a.startswith(f"{namespace}.") for a in axes):
    return False
  prefix = f"{namespace}.opts.{entry}."
  there = [any(k.startswith(prefix) for k in tree) for tree in (old, new)]
  if all(there):
    return False
  if not there[1]:  # it left with the baseline's entry
    return True
  options = type(getattr(config, namespace).opts[entry])()
  defaults = json.loads(json.dumps(dataclasses.asdict(options)))
  return flat({namespace: {"opts": {entry: defaults}}}).get(key) == new[key]


def _check_distinct(arms: Sequence[Arm], baseline: str) -> None:
  seen: dict[str, str] = {}
  folders: dict[str, str] = {}
  for arm in arms:
    if arm.name != baseline and not arm.changes:
      raise UserError(
        f"arm {arm.name!r} changes nothing: its config is that of the baseline"
        f" {baseline!r}; drop it, or change something"
      )
    text = json.dumps(plain(arm.config), sort_keys=True)
    if text in seen:
      raise UserError(
        f"the arms {seen[text]!r} and {arm.name!r} are the same config; drop"
        " one"
      )
    seen[text] = arm.name
    folder = slug(arm.name)
    if folder in folders:
      raise UserError(
        f"the arms {folders[folder]!r} and {arm.name!r} would share the folder"
        f" {folder}; rename one"
      )
    folders[folder] = arm.name


def with_seed(config: Config, seed: int) -> Config:
  """An arm's run: weights, dropout and data order all follow the seed."""
  data = dataclasses.replace(config.data, seed=seed)
  return dataclasses.replace(config, seed=seed, data=data)


def select(names: Sequence[str], wanted: str, baseline: str) -> tuple[str, ...]:
  """The arms that `--arms=a,b` names, with the baseline.

  Raises:
    UserError: a name that is no arm.
  """
  if not wanted:
    return tuple(names)
  words = [word.strip() for word in wanted.split(",")]
  # A name may have commas of its own.
  split = {tuple(w.strip() for w in name.split(",")): name for name in names}
  asked, i = [], 0
  while i < len(words):
    ends = range(len(words), i, -1)
    end = next((e for e in ends if tuple(words[i:e]) in split), None)
    if end is None:
      raise UserError(
        f"--arms: {words[i]!r} is no arm{nearest(words[i], names)}"
      )
    asked.append(split[tuple(words[i:end])])
    i = end
  return tuple(name for name in names if name in (baseline, *asked))


def named(path: str) -> str:
  """The name of a sweep: NAME of NAME.py, NAME_ARGUMENT of NAME.py:ARGUMENT."""
  file, argument = split_argument(path)
  return "_".join(filter(None, (pathlib.Path(file).stem, argument)))


def default_folder(path: str) -> pathlib.Path:
  return pathlib.Path("runs") / named(path)
