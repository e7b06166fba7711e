"""Along the tokens of a row, one by one or by chunks: the loops of recurrences.

Both take arrays [B, T, ...] and go on from a state; what a step gives for its
tokens is put together again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import UserError


def by_tokens(
  step: Callable[[Any, Any], tuple[Any, Array]],
  state: Any,
  arrays: Sequence[Array],
) -> tuple[Array, Any]:
  """`state, y_BX = step(state, [a_BX, ...])` for each token, floats in fp32.

  Returns:
    y of all tokens, [B, T, ...], and the last state.
  """
  tokens = [jnp.moveaxis(_exact(a), 1, 0) for a in arrays]
  state, y_TBX = jax.lax.scan(step, state, tokens)
  return jnp.moveaxis(y_TBX, 0, 1), state


def by_chunks(
  body: Callable[[Any, Any], tuple[Any, Array]],
  state: Any,
  arrays: Sequence[Array],
  chunk: int,
  fills: Sequence[int] = (),
) -> tuple[Array, Any]:
  """`state, y_BCX = body(state, [a_BCX, ...])` for each chunk, floats in fp32.

  For its gradient a chunk is computed again from the state before it: those
  states are what is kept.

  Args:
    chunk: tokens; a row that is shorter is one chunk.
    fills: what a last chunk that is not full gets of each array, so that
      nothing of it changes the state; (): 0 of all.
  """
  if chunk < 1:
    raise UserError(
      f"chunk={chunk} must be at least 1: how many tokens are taken at a time;"
      " leave it out for what suits"
    )
  T = arrays[0].shape[1]
  C = min(chunk, T)
  n = -(-T // C)

  def cut(a, fill):  # [n, B, C, ...]
    pad = [(0, 0), (0, n * C - T)] + [(0, 0)] * (a.ndim - 2)
    a = jnp.pad(_exact(a), pad, constant_values=fill)
    return jnp.moveaxis(a.reshape(a.shape[0], n, C, *a.shape[2:]), 1, 0)

  fills = fills or (0,) * len(arrays)
  chunks = [cut(a, fill) for a, fill in zip(arrays, fills, strict=True)]
  if n == 1:
    state, y_BTX = body(state, [a[0] for a in chunks])
    return y_BTX, state
  # The loop already keeps XLA from merging the recomputation.
  body = jax.checkpoint(body, prevent_cse=False)
  state, y_nBCX = jax.lax.scan(body, state, chunks)
  y_BTX = jnp.moveaxis(y_nBCX, 0, 1)
  return y_BTX.reshape(y_BTX.shape[0], n * C, *y_BTX.shape[3:])[:, :T], state


def _exact(a: Array) -> Array:
  return a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a
