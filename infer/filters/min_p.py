"""Min-p sampling (Nguyen et al. 2024, arXiv:2407.01082)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen


def min_p(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps p >= value * max p."""
  p_BV = jax.nn.softmax(logits_BV)
  keep_BV = p_BV >= value * p_BV.max(-1, keepdims=True)
  return jnp.where(keep_BV, logits_BV, -jnp.inf)
