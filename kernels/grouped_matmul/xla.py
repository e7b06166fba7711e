"""Grouped matmul: `ragged_dot`, and blocks of rows on a CPU.

On a CPU `jax.lax.ragged_dot` multiplies every row by every matrix, so that 64
groups cost 64 times what they should. There a loop goes through the groups,
and in each through blocks of its rows, as many as it has.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from ..flops import each_row

# Rows of a block: large ones as long as a group fills them, then small ones,
# the last of which may stand out over the group's end. A small one costs more
# a row: the matrix is read once for each block.
BLOCKS = (256, 64, 16)


def grouped_matmul(
  x_MD: Float[Array, "M D"],
  w_EDF: Float[Array, "E D F"],
  sizes_E: Int[Array, " E"],
) -> Float[Array, "M F"]:
  """As the reference, each row by one matrix alone."""
  form = blocked if jax.default_backend() == "cpu" else ragged
  # As a matmul it is kept where models/block.py keeps matmuls.
  return checkpoint_name(form(x_MD, w_EDF, sizes_E), "grouped_matmul")


def ragged(
  x_MD: Float[Array, "M D"],
  w_EDF: Float[Array, "E D F"],
  sizes_E: Int[Array, " E"],
) -> Float[Array, "M F"]:
  """XLA's own, which a TPU and a GPU have a kernel for."""
  return jax.lax.ragged_dot(x_MD, w_EDF, sizes_E.astype(jnp.int32))


@jax.custom_vjp
def blocked(
  x_MD: Float[Array, "M D"],
  w_EDF: Float[Array, "E D F"],
  sizes_E: Int[Array, " E"],
) -> Float[Array, "M F"]:
  """In blocks of rows, of which no more are computed than there are."""
  return _product(x_MD, w_EDF, sizes_E)


@functools.partial(each_row, times=1)
def _product(x_MD, w_EDF, sizes_E):
  def group(y_MF, its):
    w_DF, first, end = its

    def block(rows, y_MF):
      return rows.write(y_MF, rows.of(x_MD) @ w_DF)

    return _over_blocks(first, end, x_MD.shape[0], block, y_MF), None

  y_MF = jnp.zeros((x_MD.shape[0], w_EDF.shape[2]), x_MD.dtype)
  return jax.lax.scan(group, y_MF, (w_EDF, *_bounds(sizes_E)))[0]


def _forward(x_MD, w_EDF, sizes_E):
  return blocked(x_MD, w_EDF, sizes_E), (x_MD, w_EDF, sizes_E)


def _backward(operands, dy_MF):
  sizes_E = operands[-1]
  no_sizes = np.zeros(sizes_E.shape, jax.dtypes.float0)
  return *_gradients(*operands, dy_MF), no_sizes


@functools.partial(each_row, times=2)
def _gradients(x_MD, w_EDF, sizes_E, dy_MF):
  def group(dx_MD, its):
    w_DF, first, end = its

    def block(rows, carry):
      dx_MD, dw_DF = carry
      dy = rows.of(dy_MF)
      x = rows.mine(rows.of(x_MD))
      product = jnp.matmul(x.T, dy, preferred_element_type=jnp.float32)
      return rows.write(dx_MD, dy @ w_DF.T), dw_DF + product

    # fp32: the sum over blocks
    carry = dx_MD, jnp.zeros(w_DF.shape, jnp.float32)
    dx_MD, dw_DF = _over_blocks(first, end, x_MD.shape[0], block, carry)
    return dx_MD, dw_DF.astype(w_DF.dtype)

  its = (w_EDF, *_bounds(sizes_E))
  return jax.lax.scan(group, jnp.zeros_like(x_MD), its)


blocked.defvjp(_forward, _backward)


def _bounds(sizes_E: Array) -> tuple[Array, Array]:
  """The first row of each group, and the one behind its last."""
  end_E = jnp.cumsum(sizes_E)
  return end_E - sizes_E, end_E


class _Rows(NamedTuple):
  """A block of n rows; `mine_M1` says which are of the group, None: all."""

  first: Array
  n: int
  mine_M1: Array | None

  def of(self, a_MD: Array) -> Array:
    return jax.lax.dynamic_slice_in_dim(a_MD, self.first, self.n, 0)

  def mine(self, new_MD: Array, other: Any = 0) -> Array:
    if self.mine_M1 is None:
      return new_MD
    return jnp.where(self.mine_M1, new_MD, other)

  def write(self, a_MD: Array, new_MD: Array) -> Array:
    new_MD = self.mine(new_MD, self.of(a_MD))
    return jax.lax.dynamic_update_slice_in_dim(a_MD, new_MD, self.first, 0)


def _over_blocks(
  first: Array, end: Array, M: int, block: Callable[..., Any], carry: Any
) -> Any:
  """`block(rows, carry)` for blocks that cover the rows first to end of M."""
  sizes = sorted({min(n, M) for n in BLOCKS}, reverse=True)
  for n in sizes:
    count = (end - first) // n

    def full(i, carry, n=n, first=first):
      return block(_Rows(first + i * n, n, None), carry)

    carry = jax.lax.fori_loop(0, count, full, carry)
    first = first + count * n
  # What is left is less than a block, which may reach into other groups.
  n = sizes[-1]
  row = jnp.minimum(first, M - n)
  rows_M1 = row + jnp.arange(n)[:, None]
  rest = _Rows(row, n, (rows_M1 >= first) & (rows_M1 < end))
  return jax.lax.cond(first < end, lambda c: block(rest, c), lambda c: c, carry)
