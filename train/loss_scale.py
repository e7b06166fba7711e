"""Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740).

float16 has no number between 0 and 6e-8: small gradients vanish. The loss is
multiplied by a scale before the backward pass and the gradient divided by it
after, in fp32. A gradient that overflows is thrown away, with its update, and
the scale halved; after a number of good updates it doubles (section 3.2, and
the schedule of NVIDIA's Apex).

A skipped update leaves parameters and optimizer state as they are. It still
counts as a step: the data goes on, and the schedule with it.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..errors import UserError

# Beyond it nothing is won: the smallest float16 times it is 1.
MAXIMUM = 2.0**24


def check_loss_scale(initial: float, growth: int, minimum: float) -> None:
  """Raises UserError for keys of opt.loss_scale that make no sense."""
  for key, value in (("", initial), ("_min", minimum)):
    power = value > 0 and math.frexp(value)[0] == 0.5
    if not power or value > MAXIMUM:
      raise UserError(
        f"opt.loss_scale{key}={value} must be a power of two, at most"
        f" {MAXIMUM:.0f}, so that scaling is exact; try 65536 or 1"
      )
  if minimum > initial:
    raise UserError(
      f"opt.loss_scale_min={minimum} is above opt.loss_scale={initial}; lower"
      " it"
    )
  if growth < 1:
    raise UserError(f"opt.loss_scale_growth={growth} must be at least 1")


def initial_state(compute_dtype: str, initial: float) -> dict[str, Any]:
  """The part of the training state; empty where nothing is scaled."""
  if compute_dtype != "float16":
    return {}
  return {
    "scale": np.float32(initial),
    "good_steps": np.int32(0),  # in a row
    "skipped": np.int32(0),  # since the beginning
  }


def per_term(scale: Array, n_terms: int) -> Array:
  """What to multiply a sum of `n_terms` losses by.

  The scale is that of their mean, as in the literature; the number of terms is
  rounded to a power of two, so that no gradient is rounded by the factor.
  """
  return scale / 2.0 ** math.floor(math.log2(n_terms))


def next_state(
  state: dict[str, Any], finite: Bool[Array, ""], growth: int
) -> dict[str, Any]:
  """The state after an update whose numbers were finite, or not."""
  good = jnp.where(finite, state["good_steps"] + 1, 0)
  grown = good >= growth
  factor = jnp.where(finite, jnp.where(grown, 2.0, 1.0), 0.5)
  return {
    "scale": jnp.minimum(state["scale"] * factor, MAXIMUM),
    "good_steps": jnp.where(grown, 0, good),
    "skipped": state["skipped"] + jnp.where(finite, 0, 1),
  }
