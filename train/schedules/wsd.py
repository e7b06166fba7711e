"""Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395)."""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Options:
  decay_fraction: float = 0.2  # of the steps, at the end
  final_factor: float = 0.0  # of the peak, at the last step


def wsd(step, steps, options: Options):
  """1, then linearly down to `final_factor`."""
  decay_steps = max(options.decay_fraction * steps, 1)
  into = jnp.clip((step - (steps - decay_steps)) / decay_steps, 0, 1)
  return 1 - (1 - options.final_factor) * into
