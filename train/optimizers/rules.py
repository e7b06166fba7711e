"""Rules: a factor for each parameter by its path, and by its depth."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ...errors import UserError
from ...models.lm import depths
from ...models.param import ParamSpec, path_of
from ..ranges import broken

Rules = tuple[tuple[str, float], ...]

CATCH_ALL = ".*"


def check_rules(key: str, rules: Rules) -> None:
  """Raises UserError for what is not a (regex, factor at least 0) pair."""
  for rule in rules:
    try:
      pattern, factor = rule
      re.compile(pattern)
      factor = float(factor)
    except (TypeError, ValueError, re.error) as error:
      raise UserError(
        f"{key}: {rule!r} is not a (regex, factor) pair: {error}"
      ) from None
    if wrong := broken("at least 0", factor):
      raise UserError(f"{key}: the factor of ({pattern!r}, {factor}) {wrong}")


def match_rules(key: str, rules: Rules, specs: Mapping[str, Any]) -> Any:
  """The factor of each parameter: that of the first rule its path matches.

  Raises:
    UserError: a parameter without a rule, or a rule without a parameter. A
      closing ".*" may be without one where other rules share all parameters
      out, and a rule of configs/base.py, which is for any model, where it
      matches none.
  """
  covers = [0] * len(rules)

  def factor(key_path, spec):
    del spec
    path = path_of(key_path)
    for i, (pattern, value) in enumerate(rules):
      if re.search(pattern, path):
        covers[i] += 1
        return float(value)
    raise UserError(
      f"{key} has no rule for the parameter {path}; end it with ('.*', 1.0)"
    )

  factors = jax.tree_util.tree_map_with_path(factor, specs)
  leaves = jax.tree_util.tree_flatten_with_path(specs)[0]
  paths = [path_of(key_path) for key_path, _ in leaves]
  for i, (pattern, value) in enumerate(rules):
    if covers[i]:
      continue
    closes = i == len(rules) - 1 and pattern == CATCH_ALL
    if closes and not any(_matches_all(p, paths) for p, _ in rules[:i]):
      continue
    if taken := [path for path in paths if re.search(pattern, path)]:
      raise UserError(
        f"{key}: ({pattern!r}, {value}) covers nothing, since an earlier rule"
        f" matches {taken[0]} and all else that it does; the first match"
        " counts: put it first, or drop it"
      )
    if rules[i] in _base_rules(key):
      continue
    raise UserError(
      f"{key}: ({pattern!r}, {value}) matches no parameter; there is:"
      f" {', '.join(paths)}"
    )
  return factors


def _matches_all(pattern: str, paths: list[str]) -> bool:
  """Whether it is a catch-all of any model's paths, not of these alone."""
  return all(re.search(pattern, text) for text in (*paths, "\0"))


def _base_rules(key: str) -> Rules:
  from ...configs import base

  opt: Any = base.get_config().opt
  return opt[key.removeprefix("opt.")]


def layer_factors(layer_decay: float, specs: Mapping[str, Any]) -> Any:
  """Each parameter's factor by depth: `layer_decay` ** (layers above it).

  Layer-wise rates (Howard and Ruder 2018, arXiv:1801.06146, section 3.1;
  Clark et al. 2020, arXiv:2003.10555). The last layer and what follows it
  have 1, the embedding the least. A stacked parameter has an array, to be
  multiplied with it.
  """
  if layer_decay == 1:
    return jax.tree.map(lambda _: 1.0, specs)
  deep = depths(specs)
  last = max(int(np.max(d)) for d in jax.tree.leaves(deep))

  def factor(spec: ParamSpec, depth):
    values = layer_decay ** (last - np.asarray(depth, np.float32))
    if not values.ndim:
      return float(values)
    return values.reshape(-1, *(1,) * (len(spec.shape) - 1))

  return jax.tree.map(factor, specs, deep)
