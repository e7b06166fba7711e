"""AVERAGES: means of the weights over the run, to evaluate with.

An entry is a function `options -> Average`. What is averaged are the weights
after each update, in fp32; what is evaluated has the weights' own type. Beside
it may stand

    check(options, steps)  # raises UserError where so many updates are no use
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ...models.param import Params
from ...registry import Registry


class Average(NamedTuple):
  """A running mean of the weights.

  Attributes:
    init: `params -> state`.
    update: `(state, params, count) -> state`: the weights after an update,
      and the count of those before it.
    eval_params: `(state, params) -> params`.
  """

  init: Callable[[Params], Any]
  update: Callable[[Any, Params, Any], Any]
  eval_params: Callable[[Any, Params], Params]


AVERAGES = Registry(
  "average",
  "opt.average",
  __name__,
  {
    "none": "none:none",
    "ema": "ema:ema",
    "latest": "latest:latest",
  },
)


def check_average(name: str, options: Any, steps: int) -> None:
  """Raises UserError where a run of so many updates can not have a mean."""
  if check := getattr(AVERAGES.module(name), "check", None):
    check(options, steps)
