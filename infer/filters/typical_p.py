"""Locally typical sampling (Meister et al. 2022, arXiv:2202.00666)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen
from .leading import leading


def typical_p(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Keeps the tokens nearest to the entropy that have `value` together.

  Equation 11: in the order of |log p + H|, where H is the entropy.
  """
  logp_BV = jax.nn.log_softmax(logits_BV)
  nearness_BV = -jnp.abs(logp_BV + entropy(logp_BV))
  keep_BV = leading(nearness_BV, jnp.exp(logp_BV), value)
  return jnp.where(keep_BV, logits_BV, -jnp.inf)


def entropy(logp_BV: Float[Array, "B V"]) -> Float[Array, "B 1"]:
  """In nats; a log-probability of -inf adds nothing."""
  p_BV = jnp.exp(logp_BV)
  return -jnp.where(p_BV > 0, p_BV * logp_BV, 0).sum(-1, keepdims=True)
