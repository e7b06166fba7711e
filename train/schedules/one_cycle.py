"""One cycle (Smith and Topin 2017, arXiv:1708.07120)."""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  """A cycle, linearly up to the peak and down, and then far down."""

  cycle_fraction: float = 0.9  # of the steps, half up and half down
  initial_factor: float = 0.1  # of the peak, where the cycle begins and ends
  final_factor: float = 0.001  # of the peak, at the last step

  def __post_init__(self):
    require("one_cycle", self, "in (0, 1]", "cycle_fraction")
    require("one_cycle", self, "in [0, 1]", "initial_factor", "final_factor")


def one_cycle(step, steps, warmup, options: Options):
  if warmup:
    raise UserError(
      f"opt.warmup_steps={warmup} with opt.schedule='one_cycle', which begins"
      " with a rise of its own; set opt.warmup_steps=0"
    )
  end = options.cycle_fraction * steps
  times = jnp.array([0, end / 2, end, steps])
  low = options.initial_factor
  # With a cycle of all the steps it ends where the cycle ends.
  last = options.final_factor if end < steps else low
  return jnp.interp(step, times, jnp.array([low, 1.0, low, last]))
