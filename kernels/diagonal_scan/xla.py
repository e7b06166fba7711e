"""The recurrence of single numbers by chunks, each an associative scan.

(a, b) after (a', b') is (a a', a b' + b) (Blelloch 1990): log2(C) steps, each
of all tokens of a chunk. Products of decays only ever shrink.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

CHUNK = 64  # tokens


@jax.named_scope("diagonal_scan")
def diagonal_scan(
  a_BTX: Inexact[Array, "B T ..."],
  b_BTX: Inexact[Array, "B T ..."],
  starts_BT: Bool[Array, "B T"],
  state_BX: Inexact[Array, "B ..."],
  *,
  chunk: int = 0,
) -> tuple[Inexact[Array, "B T ..."], Inexact[Array, "B ..."]]:
  """As the reference, `chunk` tokens at a time (0: what suits)."""
  T = starts_BT.shape[1]
  C = min(chunk or CHUNK, T)
  n = -(-T // C)
  shape = jnp.broadcast_shapes(a_BTX.shape, b_BTX.shape)
  more = tuple(range(2, len(shape)))
  a_BTX = jnp.where(jnp.expand_dims(starts_BT, more), 0, a_BTX)

  def cut(x_BTX, fill):  # [n, B, C, ...]
    x_BTX = jnp.broadcast_to(x_BTX, shape)
    pad = [(0, 0), (0, n * C - T)] + [(0, 0)] * len(more)
    x_BTX = jnp.pad(x_BTX, pad, constant_values=fill)
    return jnp.moveaxis(x_BTX.reshape(-1, n, C, *shape[2:]), 1, 0)

  def body(h_BX, ab):
    a_BCX, b_BCX = ab
    h_BCX = within(a_BCX, b_BCX, h_BX)
    return h_BCX[:, -1], h_BCX

  # A token that changes nothing fills the last chunk: a = 1, b = 0.
  ab = cut(a_BTX, 1), cut(b_BTX, 0)
  if n == 1:
    state_BX, h_BTX = body(state_BX, (ab[0][0], ab[1][0]))
    return h_BTX, state_BX
  body = jax.checkpoint(body, prevent_cse=False)
  state_BX, h_nBCX = jax.lax.scan(body, state_BX, ab)
  h_BTX = jnp.moveaxis(h_nBCX, 0, 1).reshape(-1, n * C, *shape[2:])
  return h_BTX[:, :T], state_BX


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
