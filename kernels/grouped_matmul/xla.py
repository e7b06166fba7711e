"""Grouped matmul: `ragged_dot`, and blocks of rows on a CPU.

On a CPU `jax.lax.ragged_dot` multiplies every row by every matrix, so that 64
groups cost 64 times what they should. There a loop goes through the groups,
and in each through blocks of its rows, as many as it has.
"""

import functools
from collections.abc import Callable
from typing import Any

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

    def block(row, mine_M1, y_MF):
      product = _rows(x_MD, row, mine_M1) @ w_DF
      return _write(y_MF, row, mine_M1, product)

    return _blocks(first, end, x_MD.shape[0], block, y_MF), None

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

    def block(row, mine_M1, carry):
      dx_MD, dw_DF = carry
      dy = _rows(dy_MF, row, mine_M1)
      dx_MD = _write(dx_MD, row, mine_M1, dy @ w_DF.T)
      x = jnp.where(mine_M1, _rows(x_MD, row, mine_M1), 0)
      product = jnp.matmul(x.T, dy, preferred_element_type=jnp.float32)
      return dx_MD, dw_DF + product

    # fp32: the sum over blocks
    carry = dx_MD, jnp.zeros(w_DF.shape, jnp.float32)
    dx_MD, dw_DF = _blocks(first, end, x_MD.shape[0], block, carry)
    return dx_MD, dw_DF.astype(w_DF.dtype)

  its = (w_EDF, *_bounds(sizes_E))
  return jax.lax.scan(group, jnp.zeros_like(x_MD), its)


blocked.defvjp(_forward, _backward)


def _bounds(sizes_E: Array) -> tuple[Array, Array]:
  """The first row of each group, and the one behind its last."""
  end_E = jnp.cumsum(sizes_E)
  return end_E - sizes_E, end_E


def _rows(x_MD: Array, row: Array, mine_M1: Array) -> Array:
  return jax.lax.dynamic_slice_in_dim(x_MD, row, mine_M1.shape[0], 0)


def _write(y_MF: Array, row: Array, mine_M1: Array, new_MF: Array) -> Array:
  new_MF = jnp.where(mine_M1, new_MF, _rows(y_MF, row, mine_M1))
  return jax.lax.dynamic_update_slice_in_dim(y_MF, new_MF, row, 0)


def _blocks(
  first: Array, end: Array, M: int, block: Callable[..., Any], carry: Any
) -> Any:
  """`block(row, mine, carry)` for blocks that cover the rows first to end.

  A block lies within the M rows; `mine` says which of its rows are of the
  group, and were in no block before.
  """
  sizes = sorted({min(n, M) for n in BLOCKS}, reverse=True)
  for n in sizes:
    count = (end - first + (n - 1) * (n == sizes[-1])) // n

    def step(i, carry, n=n, first=first):
      start = first + i * n
      row = jnp.minimum(start, M - n)
      rows_M1 = row + jnp.arange(n)[:, None]
      mine_M1 = (rows_M1 >= start) & (rows_M1 < end)
      return block(row, mine_M1, carry)

    carry = jax.lax.fori_loop(0, count, step, carry)
    first = first + count * n
  return carry
