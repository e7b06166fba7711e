"""Warm restarts (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ...errors import UserError
from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  """Cosine decays in a row, which together take all the steps."""

  cycles: int = 3
  multiplier: float = 2.0  # a cycle is so many times as long as the last one
  final_factor: float = 0.0  # of the peak, at the end of each cycle

  def __post_init__(self):
    require("restarts", self, "at least 1", "cycles")
    require("restarts", self, "positive", "multiplier")
    require("restarts", self, "in [0, 1]", "final_factor")


def restarts(step, steps, warmup, options: Options):
  del warmup
  if options.cycles > steps:
    raise UserError(
      f"opt.opts.restarts.cycles={options.cycles} is more than the {steps}"
      " updates after the warm-up; lower it"
    )
  # The longest is 1: no power overflows.
  longest = options.cycles - 1 if options.multiplier > 1 else 0
  lengths = options.multiplier ** (np.arange(options.cycles) - longest)
  ends = np.cumsum(lengths) * steps / lengths.sum()
  starts = np.concatenate([[0.0], ends[:-1]])
  cycle = jnp.sum(step >= jnp.asarray(starts[1:], jnp.float32))
  start = jnp.asarray(starts, jnp.float32)[cycle]
  # Of cycles that end before they begin an update, some have no length.
  lengths = np.maximum(ends - starts, 1e-30)
  length = jnp.asarray(lengths, jnp.float32)[cycle]
  fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum((step - start) / length, 1)))
  return options.final_factor + (1 - options.final_factor) * fall
