"""Penalty for a token that is in the output (OpenAI 2020)."""

from jaxtyping import Array, Float

from . import Seen


def presence_penalty(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """logits - value where the token was used; the prompt does not count."""
  assert seen.counts_BV is not None
  return logits_BV - value * (seen.counts_BV > 0)
