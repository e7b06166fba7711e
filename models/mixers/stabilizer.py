"""The largest logarithm of a weight so far, which recurrences divide by."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def largest(
  f_BTX: Float[Array, "B T X"],
  i_BTX: Float[Array, "B T X"],
  starts_BT: Bool[Array, "B T"],
  before_BX: Float[Array, "B X"],
  empty: float,
) -> tuple[Float[Array, "B T X"], Float[Array, "B T X"]]:
  """m_t = max(f_t + m_{t-1}, i_t), and m_{t-1}, by an associative scan.

  What is divided by exp(m) is the same for any m, so no gradient leaves it.

  Args:
    f_BTX: log of the decay, 0 or less.
    i_BTX: log of the token's own weight.
    before_BX: m before the chunk.
    empty: m before a document.
  """
  starts_BT1 = starts_BT[..., None]
  fresh_BTX = jnp.maximum(f_BTX + empty, i_BTX)
  own_BTX = jnp.where(starts_BT1, fresh_BTX, i_BTX)
  decay_BTX = jnp.where(starts_BT1, -jnp.inf, f_BTX)
  own_BTX = own_BTX.at[:, 0].max(decay_BTX[:, 0] + before_BX)

  def after(one, then):
    (f, i), (f_then, i_then) = one, then
    return f + f_then, jnp.maximum(f_then + i, i_then)

  m_BTX = jax.lax.associative_scan(after, (decay_BTX, own_BTX), axis=1)[1]
  previous_BTX = jnp.concatenate([before_BX[:, None], m_BTX[:, :-1]], axis=1)
  previous_BTX = jnp.where(starts_BT1, empty, previous_BTX)
  return jax.lax.stop_gradient((m_BTX, previous_BTX))
