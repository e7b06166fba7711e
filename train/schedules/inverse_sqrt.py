"""Inverse square root (Vaswani et al. 2017, arXiv:1706.03762)."""

import jax.numpy as jnp


def inverse_sqrt(step, steps, warmup, options):
  """sqrt(warmup / (warmup + step)): it goes on falling, whatever the steps.

  Equation 3 of the paper, as a factor of its own peak.
  """
  del steps, options
  warmup = max(warmup, 1)
  return jnp.sqrt(warmup / (warmup + step))
