"""Fair budgets: one key of each arm is changed until all cost the same.

The baseline says how much; each other arm's `solve` key moves in steps of
`multiple_of` until the arm costs as much, within 1 %.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..train.config import Config
from . import costs
from .arms import Space
from .sweep import Sweep

TOLERANCE = 0.01  # of the baseline's
_WIDTHS = ("d_model", "ff_dim", "head_dim")
_TRIES = 64  # values next to one that can't be, before giving up

Measure = Callable[[Config], float]


@dataclasses.dataclass(frozen=True)
class Knob:
  """The key that is changed: its value in an arm, and its steps."""

  key: str
  step: int

  @classmethod
  def of(cls, space: Space, config: Config) -> "Knob":
    value = read(config, space.solve)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
      raise UserError(
        f"sweep(): solve={space.solve!r} is {value!r} in the baseline; it must"
        " be a key that counts something, such as model.ff_dim, model.d_model,"
        " model.n_layers or steps"
      )
    width = space.solve.rpartition(".")[2] in _WIDTHS
    return cls(space.solve, space.multiple_of or (8 if width else 1))


def read(config: Config, key: str) -> Any:
  """The value of a dotted key.

  Raises:
    UserError: there is none.
  """
  node: Any = config.as_dict()
  for part in key.split("."):
    if not isinstance(node, Mapping) or part not in node:
      raise UserError(f"sweep(): solve={key!r} is not a config key")
    node = node[part]
  return node


def solve(
  sweep: Sweep,
  resolve: Callable[[str, Mapping[str, Any]], Config],
  names: Sequence[str],
  measure: Measure | None = None,
) -> dict[str, dict[str, Any]]:
  """Arm -> the value of the key with which it meets the budget.

  Args:
    resolve: an arm's config with further overrides.
    names: of the arms to change.
    measure: what is to agree; None: counted as the budget says.

  Raises:
    UserError: an arm that can't meet it, and how near it comes.
  """
  space = sweep.space
  if measure is None:
    measure = functools.partial(costs.measure, budget=space.budget)
  base = sweep[sweep.baseline].config
  knob, target = Knob.of(space, base), measure(base)
  found = {}
  for arm in sweep.arms:
    if arm.name == sweep.baseline or arm.name not in names:
      continue
    start = read(arm.config, knob.key)
    if off(measure(arm.config), target) <= TOLERANCE:
      continue  # fair as it is

    def at(value: int, name: str = arm.name) -> float | None:
      try:
        return measure(resolve(name, {knob.key: value}))
      except UserError:
        return None  # not a multiple of the heads, say

    value = nearest_value(at, start, knob.step, target, TOLERANCE / 10)
    reached = None if value is None else at(value)
    if value is None or reached is None:
      raise UserError(
        f"budget={space.budget!r}: arm {arm.name!r} has no {knob.key} that"
        f" works (multiples of {knob.step} from {start} on were tried); choose"
        " another key to solve, or another multiple_of"
      )
    if off(reached, target) > TOLERANCE:
      finer = (
        f"a finer multiple_of than {knob.step}, or " if knob.step > 1 else ""
      )
      raise UserError(
        f"budget={space.budget!r} cannot be met by arm {arm.name!r}: its"
        f" nearest is {knob.key}={value} with {reached:,.0f}, which is"
        f" {reached / target - 1:+.1%} of the baseline's {target:,.0f} and"
        f" more than {TOLERANCE:.0%}; try {finer}another key to solve"
      )
    found[arm.name] = {knob.key: value}
  return found


def off(reached: float, target: float) -> float:
  return abs(reached / target - 1)


def nearest_value(
  at: Callable[[int], float | None],
  start: int,
  step: int,
  target: float,
  close: float = 0.0,
) -> int | None:
  """The multiple of `step` whose cost is nearest; costs rise with it.

  Args:
    at: the cost, or None where the value can't be.
    start: where to begin to look.
    close: a share of the target that ends the search.
  """
  seen: dict[int, float] = {}

  def valid(place: int, toward: int) -> int | None:
    """The first place from this one on whose value can be."""
    for i in range(_TRIES):
      p = place + toward * i
      if p < 1:
        return None
      if p in seen:
        return p
      if (found := at(p * step)) is not None:
        seen[p] = found
        return p
    return None

  low = high = valid(max(1, round(start / step)), 1)
  if low is None or high is None:
    return None
  while seen[high] < target:
    up = valid(2 * high, 1)
    if up is None:
      break
    low, high = high, up
  while seen[low] > target and low > 1:
    down = valid(max(1, low // 2), -1) or valid(1, 1)
    if down is None or down >= low:
      break
    low, high = down, low
  halve = False
  while high - low > 1 and all(
    off(seen[p], target) > close for p in (low, high)
  ):
    # Costs are nearly straight in a width: a line finds the place in a few
    # looks, and each second look halves what is left.
    share = (target - seen[low]) / max(seen[high] - seen[low], 1e-9)
    guess = low + round((0.5 if halve else share) * (high - low))
    guess = min(max(guess, low + 1), high - 1)
    halve = not halve
    middle = valid(guess, 1)
    if middle is None or middle >= high:
      middle = valid(guess, -1)
    if middle is None or middle <= low:
      break  # nothing between the two can be
    if seen[middle] < target:
      low = middle
    else:
      high = middle
  best = min((low, high), key=lambda p: (math.fabs(seen[p] - target), p))
  return best * step


def solve_time(
  sweep: Sweep, seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
  """Arm -> the updates that take as long as the baseline's.

  Args:
    seconds: of one update, measured, of the baseline and of the arms to change.

  Raises:
    UserError: the key to solve is not `steps`.
  """
  if sweep.space.solve != "steps":
    raise UserError(
      f"budget='time' with solve={sweep.space.solve!r}: what was timed is one"
      " update, so only solve='steps' can be met; or budget='flops'"
    )
  target = sweep[sweep.baseline].config.steps * seconds[sweep.baseline]
  found = {}
  for name, of_update in seconds.items():
    steps = max(1, round(target / of_update))
    if name != sweep.baseline and steps != sweep[name].config.steps:
      found[name] = {"steps": steps}
  return found
