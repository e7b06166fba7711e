"""Rows cut into blocks whose right halves hear their left ones.

Of a convolution, tokens of one half of a block are heard in the other, and
pairs within a half belong to smaller blocks: over blocks of 2, 4, 8, ... tokens
each pair counts once. Documents are runs of tokens, so that of all pairs across
the middle of a block those within one document count: the document that begins
the right half. What is of another is made 0 on both sides, and never mixed.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def sizes(first: int, slots: int) -> list[int]:
  """Sizes of halves, from `first` on, where a row has right ones."""
  found = [first]
  while found[-1] < slots:
    found.append(2 * found[-1])
  return found[:-1]


def fit(a: Array, size: int, axis: int) -> Array:
  """Cut, or with 0 behind it."""
  if a.shape[axis] >= size:
    return jax.lax.slice_in_dim(a, 0, size, axis=axis)
  pad = [(0, 0)] * a.ndim
  pad[axis] = (0, size - a.shape[axis])
  return jnp.pad(a, pad)


def halves(a: Array, c: int, axis: int) -> tuple[Array, Array]:
  """Left and right ones of c slots each: [..., S, ...] to [..., n, c, ...]."""
  n = -(-(a.shape[axis] - c) // (2 * c))
  a = fit(a, 2 * c * n, axis)
  shape = (*a.shape[:axis], n, 2, c, *a.shape[axis + 1 :])
  left, right = jnp.split(a.reshape(shape), 2, axis=axis + 1)
  return left.squeeze(axis + 1), right.squeeze(axis + 1)


def of_right(y: Array, slots: int, axis: int) -> Array:
  """Right halves as a row, whose left ones are 0; `axis` is that of blocks."""
  n, c = y.shape[axis : axis + 2]
  pad = [(0, 0)] * (y.ndim + 1)
  pad[axis + 1] = (1, 0)
  y = jnp.pad(jnp.expand_dims(y, axis + 1), pad)
  shape = (*y.shape[:axis], 2 * c * n, *y.shape[axis + 3 :])
  return fit(y.reshape(shape), slots, axis)


def middle(
  of_BS: Int[Array, "B S"], c: int
) -> tuple[Bool[Array, "B n C"], Bool[Array, "B n C"]]:
  """Where the halves are of the document that begins the right one.

  Args:
    of_BS: each slot's document.
  """
  left_BnC, right_BnC = halves(of_BS, c, 1)
  first_Bn1 = right_BnC[..., :1]
  return left_BnC == first_Bn1, right_BnC == first_Bn1


def toeplitz(h_XM: Float[Array, "X M"], rows: int) -> Float[Array, "X I J"]:
  """h[J + i - j], whose rows begin at lags from J = M - `rows` on.

  By copies alone: a gather's gradient, which adds up by index, is slow.
  """
  X, M = h_XM.shape
  from_J_XM = jnp.roll(h_XM[:, ::-1], 1 - rows, axis=1)
  # Read M - 1 at a time, a row of period M begins one earlier than the last.
  of_rows_XIM = jnp.broadcast_to(from_J_XM[:, None], (X, rows, M))
  flat_XF = of_rows_XIM.reshape(X, rows * M)[:, : rows * (M - 1)]
  return flat_XF.reshape(X, rows, M - 1)[:, :, : M - rows]
