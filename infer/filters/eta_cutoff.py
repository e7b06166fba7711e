"""Eta sampling (Hewitt et al. 2022, arXiv:2210.15191)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen
from .epsilon_cutoff import keep_likely
from .typical_p import entropy


def eta_cutoff(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps p >= min(value, sqrt(value) exp(-entropy)), and the likeliest.

  Section 4.1, with alpha = sqrt(epsilon) as the authors recommend.
  """
  logp_BV = jax.nn.log_softmax(logits_BV)
  eta_B1 = jnp.minimum(value, jnp.sqrt(value) * jnp.exp(-entropy(logp_BV)))
  return keep_likely(logits_BV, jnp.exp(logp_BV), eta_B1)
