"""Nucleus sampling, top-p (Holtzman et al. 2019, arXiv:1904.09751)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen
from .leading import leading


def top_p(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps a token where the likelier ones have less than `value` together."""
  keep_BV = leading(logits_BV, jax.nn.softmax(logits_BV), value)
  return jnp.where(keep_BV, logits_BV, -jnp.inf)
