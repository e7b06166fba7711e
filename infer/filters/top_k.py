"""Top-k sampling (Fan et al. 2018, arXiv:1805.04833)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen
from .leading import leading


def top_k(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps the `value` likeliest tokens, and what is equal to the last."""
  keep_BV = leading(logits_BV, jnp.ones_like(logits_BV), value)
  return jnp.where(keep_BV, logits_BV, -jnp.inf)
