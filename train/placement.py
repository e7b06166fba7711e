"""Where the optimizer's state lies: like the parameter that it is about."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from ..models.param import ParamSpec, path_of
from ..parallel.rules import Layout

Keys = tuple[Any, ...]


def place_opt_state(
  opt_state: Any, specs: Mapping[str, Any], layout: Layout
) -> Any:
  """The sharding of each array of the state.

  An array is about the parameter whose path is in its own. One that has the
  parameter's shape, perhaps with axes before it, lies as the parameter does;
  one that has another shape, such as a preconditioner, is split along
  "layers" at most; what is about no parameter is on every device.

  Args:
    opt_state: arrays, or their shapes.
    specs: nested dict of `ParamSpec`.
  """
  leaves = jax.tree_util.tree_flatten_with_path(specs)[0]
  by_keys = {_keys(path): (path_of(path), spec) for path, spec in leaves}

  def place(path, a):
    for part in _parts(_keys(path)):
      if part in by_keys:
        name, spec = by_keys[part]
        return layout.param(name, a.shape, _axes(a.shape, spec))
    return layout.replicated()

  return jax.tree_util.tree_map_with_path(place, opt_state)


def _keys(path: Keys) -> Keys:
  """The keys of dicts, which parameters have; None for other containers."""
  return tuple(getattr(k, "key", None) for k in path)


def _parts(keys: Keys) -> Iterator[Keys]:
  """Every run of consecutive keys, the longest first."""
  for length in range(len(keys), 0, -1):
    for start in range(len(keys) - length + 1):
      yield keys[start : start + length]


def _axes(shape: tuple[int, ...], spec: ParamSpec) -> tuple[str | None, ...]:
  before = len(shape) - len(spec.shape)
  if before >= 0 and shape[before:] == spec.shape:
    return (None,) * before + spec.axes
  if spec.stacked and shape[:1] == spec.shape[:1]:
    return ("layers",) + (None,) * (len(shape) - 1)
  return (None,) * len(shape)
