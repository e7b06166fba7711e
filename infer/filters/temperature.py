"""Temperature (Ackley et al. 1985)."""

from jaxtyping import Array, Float

from . import Seen


def temperature(
  logits_BV: Float[Array, "B V"], value: Array, seen: Seen
) -> Float[Array, "B V"]:
  """logits / value; a value of 0 is greedy and never comes here."""
  return logits_BV / value
