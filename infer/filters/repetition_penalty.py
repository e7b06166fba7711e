"""Repetition penalty of CTRL (Keskar et al. 2019, arXiv:1909.05858)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import Seen


def repetition_penalty(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """Divides the logits of tokens in prompt or output by `value`.

  A negative logit is multiplied, as all implementations do: the division of
  section 4.1 would make such a token likelier.
  """
  assert seen.prompt_BV is not None and seen.counts_BV is not None
  penalised_BV = jnp.where(logits_BV < 0, logits_BV * value, logits_BV / value)
  used_BV = seen.prompt_BV | (seen.counts_BV > 0)
  return jnp.where(used_BV, penalised_BV, logits_BV)
