"""What `sweep()` of a config file says, and the arms that it spans."""

import dataclasses
import itertools
import re
from collections.abc import (
  Callable,
  Collection,
  Iterator,
  Mapping,
  Sequence,
  Set,
)
from typing import Any

from ..errors import UserError, nearest

Overrides = Mapping[str, Any]  # config key -> value
BUDGETS = ("params", "flops", "tokens", "memory", "time")
_TEXTS = ("baseline", "metric", "goal", "budget", "solve", "fit")
_EXAMPLE = '{"arms": {"pre": {}, "post": {"model.residual": "post"}}}'


@dataclasses.dataclass(frozen=True)
class Space:
  """The arms of a comparison, as a config file spans them.

  The arms are the product of `arms`, of each key of `grid` and of each group
  of `zip`, less those that `where` leaves out.

  Attributes:
    arms: name -> what it changes in `get_config()`.
    grid: key -> values, each with each.
    zip: key -> values, the first with the first; or several such groups.
    where: says of an arm's overrides whether it belongs to the sweep.
    baseline: the arm that others are compared with; "": the first.
    axes: keys, or namespaces, in which arms may differ, besides those of grid
      and zip. With `arms` they must be named: an arm that changes more than
      it says is refused.
    metric: of the last evaluation, as in metrics.jsonl.
    goal: min or max.
    seeds: how many, without --seeds.
    alpha: chance of any false claim in the whole comparison.
    budget: what all arms get the same of; "": nothing.
    solve: the key that is changed until they do.
    multiple_of: steps of that key; 0: 8 for widths, 1 for all else.
    fit: "scaling" for a law of all runs, which a single seed suffices for.
  """

  arms: Mapping[str, Overrides] = dataclasses.field(default_factory=dict)
  grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  zip: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]] = ()
  where: Callable[[Overrides], bool] | None = None
  baseline: str = ""
  axes: Sequence[str] = ()
  metric: str = "heldout/bits_per_byte"
  goal: str = "min"
  seeds: int = 5
  alpha: float = 0.05
  budget: str = ""
  solve: str = ""
  multiple_of: int = 0
  fit: str = ""

  def __post_init__(self):
    for word, known, field in (
      (self.goal, ("min", "max"), "goal"),
      (self.budget, ("", *BUDGETS), "budget"),
      (self.fit, ("", "scaling"), "fit"),
    ):
      if word not in known:
        raise UserError(
          f"sweep(): {field}={word!r} is not one of"
          f" {', '.join(filter(None, known))}{nearest(word, known)}"
        )
    if bool(self.budget) != bool(self.solve):
      raise UserError(
        f"sweep(): budget={self.budget!r} and solve={self.solve!r} belong"
        " together: the budget says what arms share, solve the key to change,"
        " as in budget='params', solve='model.ff_dim'"
      )
    if not 0 < self.alpha < 1:
      raise UserError(f"sweep(): alpha={self.alpha} must be in (0, 1)")
    if self.seeds < 1:
      raise UserError(f"sweep(): seeds={self.seeds} must be at least 1")
    for group in self.zips:
      sizes = {key: len(values) for key, values in group.items()}
      if len(set(sizes.values())) > 1:
        said = ", ".join(f"{key} has {n}" for key, n in sizes.items())
        raise UserError(
          f"sweep(): the values of a zip go together, but {said}; give each key"
          " as many"
        )

  @property
  def zips(self) -> tuple[Mapping[str, Sequence[Any]], ...]:
    return (
      (self.zip,) if isinstance(self.zip, Mapping) else tuple(self.zip)
    ) or ()

  @property
  def varied(self) -> tuple[str, ...]:
    """The keys in which arms may differ: declared, or spanned."""
    zipped = [key for group in self.zips for key in group]
    solved = [self.solve] if self.solve else []
    return tuple(dict.fromkeys((*self.axes, *self.grid, *zipped, *solved)))

  def expand(self) -> dict[str, dict[str, Any]]:
    """Name -> overrides of each arm, in the file's order."""
    short = _short_names([*self.grid, *(k for g in self.zips for k in g)])
    factors: list[list[tuple[str, Overrides]]] = []
    if self.arms:
      factors.append(list(self.arms.items()))
    for key, values in self.grid.items():
      factors.append([(f"{short[key]}={_text(v)}", {key: v}) for v in values])
    for group in self.zips:
      keys = list(group)
      rows = zip(*group.values(), strict=True)
      factors.append(
        [
          (
            f"{short[keys[0]]}={_text(row[0])}",
            dict(zip(keys, row, strict=True)),
          )
          for row in rows
        ]
      )
    found: dict[str, dict[str, Any]] = {}
    for name, overrides in _product(factors) if factors else ():
      if not self._belongs(name, overrides):
        continue
      if name in found:
        raise UserError(
          f"sweep(): two arms are named {name!r}; name them under arms"
        )
      found[name] = overrides
    if len(found) < 2:
      raise UserError(
        f"sweep() spans {len(found)} arm(s): a comparison needs 2 or more, as"
        f" in {_EXAMPLE}"
      )
    return found

  def _belongs(self, name: str, overrides: Overrides) -> bool:
    try:
      return self.where is None or bool(self.where(overrides))
    except Exception as error:  # a user's own
      raise UserError(
        f"sweep(): where fails for the arm {name!r}: {type(error).__name__}:"
        f" {error}; it is given {dict(overrides)}"
      ) from error


def _product(
  factors: Sequence[Sequence[tuple[str, Overrides]]],
) -> Iterator[tuple[str, dict[str, Any]]]:
  for parts in itertools.product(*factors):
    overrides: dict[str, Any] = {}
    for _, more in parts:
      if twice := overrides.keys() & more.keys():
        raise UserError(
          f"sweep(): {min(twice)} is set twice in one arm, by"
          f" {' and '.join(repr(name) for name, _ in parts)}; set it once"
        )
      overrides |= more
    yield " ".join(name for name, _ in parts), overrides


def _short_names(keys: Sequence[str]) -> dict[str, str]:
  """The last word of each key, or the whole key where two would be alike."""
  last = {key: key.rpartition(".")[2] for key in keys}
  words = list(last.values())
  return {k: w if words.count(w) == 1 else k for k, w in last.items()}


def _text(value: Any) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, tuple | list):
    return ",".join(map(_text, value))
  return str(value)


def slug(name: str) -> str:
  """An arm's name as that of a folder."""
  return re.sub(r"[^\w.=,+-]+", "_", name)


def read_space(values: Any) -> Space:
  """What `sweep()` returned, checked.

  Raises:
    UserError: it is no dict, or has a field that there is not.
  """
  if not isinstance(values, Mapping):
    raise UserError(
      f"sweep() returns a {type(values).__name__}, not a dict, as in {_EXAMPLE}"
    )
  known = [field.name for field in dataclasses.fields(Space)]
  for key in values:
    if key not in known:
      raise UserError(f"sweep(): {key!r} is no field{nearest(str(key), known)}")
  _check_kinds(values)
  return Space(**values)


def _check_kinds(of: Mapping[str, Any]) -> None:
  """A user's dict has any types: what is no such kind is named."""
  for field in ("arms", "grid"):
    if not isinstance(value := of.get(field, {}), Mapping):
      raise UserError(
        f"sweep(): {field} must be a dict, as in {_EXAMPLE}; it is a"
        f" {type(value).__name__}"
      )
  for name, overrides in of.get("arms", {}).items():
    if not isinstance(overrides, Mapping):
      raise UserError(
        f"sweep(): arm {name!r} must be a dict of config keys, as in {_EXAMPLE}"
      )
    if not isinstance(name, str) or not name.strip(". "):
      raise UserError(
        f"sweep(): an arm is named {name!r}; a name is text, as in {_EXAMPLE}"
      )
  kinds: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(_TEXTS, (str, "text")),
    **dict.fromkeys(("seeds", "multiple_of"), (int, "a whole number")),
    "alpha": ((int, float), "a number, as in 0.05"),
  }
  for field, (kind, said) in kinds.items():
    value = of.get(field, kind() if isinstance(kind, type) else 0.05)
    if not isinstance(value, kind) or isinstance(value, bool):
      raise UserError(f"sweep(): {field}={value!r} must be {said}")
  if of.get("multiple_of", 0) < 0:
    raise UserError(
      f"sweep(): multiple_of={of['multiple_of']} must be positive, or 0"
    )
  axes = of.get("axes", ())
  if isinstance(axes, str) or not isinstance(axes, Sequence):
    raise UserError(
      f"sweep(): axes={axes!r} must be a tuple of keys: write ({axes!r},)"
    )
  if not callable(where := of.get("where") or callable):
    raise UserError(
      f"sweep(): where={where!r} must be a function of an arm's overrides"
    )
  zips = of.get("zip", ())
  if not isinstance(zips, Mapping | list | tuple):
    raise UserError(
      f"sweep(): zip={zips!r} must be a dict of keys, or several of them"
    )
  zips = [zips] if isinstance(zips, Mapping) else zips
  for group in zips:
    if not isinstance(group, Mapping) or not group:
      raise UserError(
        f"sweep(): zip has {group!r}; a group is a dict of keys, as in"
        " {'model.d_model': (64, 128), 'opt.lr': (0.01, 0.007)}"
      )
  for group in (of.get("grid", {}), *zips):
    for key, values in group.items():
      # An array will do; of a set the order is another each time.
      if isinstance(values, str | Set | Mapping) or not isinstance(
        values, Collection
      ):
        raise UserError(
          f"sweep(): {key} has {values!r}; give its values as a tuple, as in"
          f" ({values!r},)"
        )
