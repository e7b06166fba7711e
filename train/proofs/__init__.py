"""Proofs: properties shown on the user's own config, by `ablax prove`.

Each is a function `prove(config, **arguments)` that yields what it compared.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

# A gradient that is zero in exact arithmetic is zero in floating point where
# the mask is a select; a scan may leave the rounding of its largest terms.
# Relative to the largest gradient.
LEAK_TOLERANCE = 1e-6


class Check(NamedTuple):
  """One comparison: the claim, whether it holds, and the numbers."""

  claim: str
  holds: bool
  seen: str


PROOFS = {
  "resume": "a run killed with -9 and resumed ends in the same bits",
  "accumulate": "microbatches give the gradient of one big batch",
  "data": "the order of the data does not depend on the number of shards",
  "causal": "no position sees the future or another packed document",
  "mup": "with model.mup_base, updates change as much at any width",
  "mixer": "each mixer of the config keeps the mixer contract",
}


def find(name: str) -> Callable[..., Iterator[Check]]:
  return importlib.import_module(f"{__name__}.{name}").prove
