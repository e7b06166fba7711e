"""Which tokens lead, up to a total weight: the core of three filters.

top-k counts, top-p adds up probabilities, typical sampling adds them up in
another order. All three keep a token where the weight of those before it is
less than a bound.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def leading(
  score_BV: Float[Array, "B V"],
  weight_BV: Float[Array, "B V"],
  bound: Array,
) -> Bool[Array, "B V"]:
  """True where the tokens of a higher score weigh less than `bound` together.

  Equal scores are kept or dropped together, and the highest is always kept.
  No sort: the lowest score that is kept is found by bisection over the 2^32
  floats, 32 sums over V, which is faster than a sort of a real vocabulary.
  """
  order_BV = _ordered(score_BV)

  def halve(_, ends):
    low_B1, high_B1 = ends
    # The mean without overflow.
    mid_B1 = (low_B1 & high_B1) + ((low_B1 ^ high_B1) >> 1)
    above_BV = jnp.where(order_BV > mid_B1, weight_BV, 0)
    enough_B1 = above_BV.sum(-1, keepdims=True) < bound
    return (
      jnp.where(enough_B1, low_B1, mid_B1),
      jnp.where(enough_B1, mid_B1, high_B1),
    )

  # The sum above `high` is always below the bound, that above `low` never.
  low_B1 = jnp.full((order_BV.shape[0], 1), jnp.iinfo(jnp.int32).min)
  high_B1 = order_BV.max(-1, keepdims=True)
  _, least_B1 = jax.lax.fori_loop(0, 32, halve, (low_B1, high_B1))
  return order_BV >= least_B1


def _ordered(x: Float[Array, "..."]) -> Array:
  """Integers in the order of the floats; -0 is 0."""
  bits = jax.lax.bitcast_convert_type(
    jnp.where(x == 0, 0.0, x).astype(jnp.float32), jnp.int32
  )
  return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)
