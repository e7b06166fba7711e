"""Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395)."""

import dataclasses

import jax.numpy as jnp

from ..ranges import require


@dataclasses.dataclass(frozen=True)
class Options:
  decay_fraction: float = 0.2  # of the steps, at the end
  final_factor: float = 0.0  # of the peak, at the last step

  def __post_init__(self):
    require("wsd", self, "in [0, 1]", "decay_fraction")
    require("wsd", self, "at least 0", "final_factor")


def wsd(step, steps, warmup, options: Options):
  """1, then linearly down to `final_factor`."""
  del warmup
  decay_steps = max(options.decay_fraction * steps, 1)
  into = jnp.clip((step - (steps - decay_steps)) / decay_steps, 0, 1)
  return 1 - (1 - options.final_factor) * into
