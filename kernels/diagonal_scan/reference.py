"""The recurrence of single numbers a token at a time: the oracle."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from ..by_chunks import by_tokens


def diagonal_scan(
  a_BTX: Inexact[Array, "B T ..."],
  b_BTX: Inexact[Array, "B T ..."],
  starts_BT: Bool[Array, "B T"],
  state_BX: Inexact[Array, "B ..."],
) -> tuple[Inexact[Array, "B T ..."], Inexact[Array, "B ..."]]:
  """h of all tokens, and of the last one."""
  more = tuple(range(1, state_BX.ndim))

  def step(h_BX, token):
    a_BX, b_BX, starts_B = token
    h_BX = jnp.where(jnp.expand_dims(starts_B, more), 0, h_BX)
    h_BX = a_BX * h_BX + b_BX
    return h_BX, h_BX

  return by_tokens(step, state_BX, (a_BTX, b_BTX, starts_BT))
