"""Bias on the logits of chosen tokens (OpenAI 2021)."""

from jaxtyping import Array, Float

from . import Seen


def logit_bias(
  logits_BV: Float[Array, "B V"], value: Float[Array, " V"], seen: Seen
) -> Float[Array, "B V"]:
  """logits + value."""
  return logits_BV + value
