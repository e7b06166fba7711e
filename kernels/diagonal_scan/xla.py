"""The recurrence of single numbers by chunks, each an associative scan.

(a, b) after (a', b') is (a a', a b' + b) (Blelloch 1990): log2(C) steps, each
of all tokens of a chunk. Products of decays only ever shrink.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from ..by_chunks import by_chunks

CHUNK = 64  # tokens


@jax.named_scope("diagonal_scan")
def diagonal_scan(
  a_BTX: Inexact[Array, "B T ..."],
  b_BTX: Inexact[Array, "B T ..."],
  starts_BT: Bool[Array, "B T"],
  state_BX: Inexact[Array, "B ..."],
  *,
  chunk: int = CHUNK,
) -> tuple[Inexact[Array, "B T ..."], Inexact[Array, "B ..."]]:
  """As the reference, `chunk` tokens at a time."""
  shape = jnp.broadcast_shapes(a_BTX.shape, b_BTX.shape)
  starts_BTX = jnp.expand_dims(starts_BT, tuple(range(2, len(shape))))
  a_BTX = jnp.broadcast_to(jnp.where(starts_BTX, 0, a_BTX), shape)

  def body(h_BX, ab):
    a_BCX, b_BCX = ab
    h_BCX = within(a_BCX, b_BCX, h_BX)
    return h_BCX[:, -1], h_BCX

  ab = (a_BTX, jnp.broadcast_to(b_BTX, shape))
  return by_chunks(body, state_BX, ab, chunk, fills=(1, 0))


@jax.custom_vjp
def within(
  a_BCX: Inexact[Array, "B C ..."],
  b_BCX: Inexact[Array, "B C ..."],
  state_BX: Inexact[Array, "B ..."],
) -> Inexact[Array, "B C ..."]:
  """h of the tokens of a chunk; its gradient is such a scan from the end."""
  b_BCX = b_BCX.at[:, 0].add(a_BCX[:, 0] * state_BX)
  return _scan(a_BCX, b_BCX)


def _scan(a_BCX, b_BCX, reverse=False):
  def after(first, then):
    (a, b), (a_then, b_then) = first, then
    return a * a_then, a_then * b + b_then

  pair = (a_BCX, b_BCX)
  return jax.lax.associative_scan(after, pair, reverse=reverse, axis=1)[1]


def _forward(a_BCX, b_BCX, state_BX):
  h_BCX = within(a_BCX, b_BCX, state_BX)
  return h_BCX, (a_BCX, h_BCX, state_BX)


def _backward(kept, dh_BCX):
  a_BCX, h_BCX, state_BX = kept
  next_BCX = jnp.concatenate(
    [a_BCX[:, 1:], jnp.zeros_like(a_BCX[:, :1])], axis=1
  )
  db_BCX = _scan(next_BCX, dh_BCX, reverse=True)
  before_BCX = jnp.concatenate([state_BX[:, None], h_BCX[:, :-1]], axis=1)
  return db_BCX * before_BCX, db_BCX, a_BCX[:, 0] * db_BCX[:, 0]


within.defvjp(_forward, _backward)
