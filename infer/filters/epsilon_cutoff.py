"""Epsilon sampling (Hewitt et al. 2022, arXiv:2210.15191)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen


def epsilon_cutoff(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps p >= value, and the likeliest token in any case."""
  return keep_likely(logits_BV, jax.nn.softmax(logits_BV), value)


def keep_likely(
  logits_BV: Float[Array, "B V"], p_BV: Float[Array, "B V"], cutoff: Array
) -> Float[Array, "B V"]:
  """Keeps p >= cutoff, a number or one a row, and the likeliest token."""
  keep_BV = (p_BV >= cutoff) | (p_BV == p_BV.max(-1, keepdims=True))
  return jnp.where(keep_BV, logits_BV, -jnp.inf)
