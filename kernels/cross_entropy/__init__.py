"""Output matrix and cross-entropy in one op, weighted and summed.

Both implementations return `(loss, Sums)`; the gradient flows through `loss`
alone, and `Sums` is for metrics. Choose through `kernels.dispatch`.
"""

from typing import NamedTuple

from jaxtyping import Array, Float


class Sums(NamedTuple):
  """Weighted sums over tokens, without gradient; nats, nats^2 and a count."""

  cross_entropy: Float[Array, ""]
  z: Float[Array, ""]
  correct: Float[Array, ""]
