"""Classifier-free guidance of text (Sanchez et al. 2023, arXiv:2306.17806)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen


def guidance_scale(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """log p_negative + value (log p - log p_negative), of the next token.

  Equation 7, with the negative prompt of section 3.4. The probabilities are
  those over the whole vocabulary; what was masked stays so.
  """
  assert seen.unguided_BV is not None
  with_BV = jax.nn.log_softmax(seen.model_BV)
  without_BV = jax.nn.log_softmax(seen.unguided_BV)
  guided_BV = without_BV + value * (with_BV - without_BV)
  return jnp.where(jnp.isneginf(logits_BV), -jnp.inf, guided_BV)
