"""Inverse square root (Vaswani et al. 2017, arXiv:1706.03762)."""

import jax.numpy as jnp

from ...errors import UserError


def inverse_sqrt(step, steps, warmup, options):
  """sqrt(warmup / (warmup + step)): it goes on falling, whatever the steps.

  Equation 3 of the paper, as a factor of its own peak.
  """
  del steps, options
  if not warmup:
    raise UserError(
      "opt.warmup_steps=0 with opt.schedule='inverse_sqrt', which falls to"
      " sqrt(warmup / (warmup + step)) of the peak; set opt.warmup_steps, as in"
      " 4000"
    )
  return jnp.sqrt(warmup / (warmup + step))
