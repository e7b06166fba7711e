"""Gradients of `Pairs`, added up over the tiles of the `xla` form.

Arrays of floats have one; in its place the others have None.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from . import Pairs
from .blocks import Tile, cut


def split(pairs: Pairs | None) -> tuple[list[Any], Callable[..., Any]]:
  """The arrays that have gradients, and what puts others in their place."""
  leaves, tree = jax.tree.flatten(pairs)
  kept = [
    i for i, a in enumerate(leaves) if jnp.issubdtype(a.dtype, jnp.inexact)
  ]

  def put(floats: list[Any]) -> Any:
    new = list(leaves)
    for i, a in zip(kept, floats, strict=True):
      new[i] = a
    return tree.unflatten(new)

  return [leaves[i] for i in kept], put


def add(total: Any, part: Any, start: Any, axis: int) -> Any:
  """Adds to the slots from `start` on."""
  if total.shape == part.shape:
    return total + part
  here = cut(total, start, part.shape[axis], axis)
  return jax.lax.dynamic_update_slice_in_dim(total, here + part, start, axis)


def add_pairs(total: Pairs | None, part: Pairs | None, at: Tile) -> Any:
  """Gradients of a tile's pairs to those of all."""
  if total is None or part is None:
    return total

  def added(field: str, start: Any) -> Any:
    def one(a, b):
      return None if a is None else add(a, b, start, 1)

    pairs = getattr(total, field), getattr(part, field)
    return jax.tree.map(one, *pairs, is_leaf=lambda a: a is None)

  return Pairs(
    total.function,
    added("of_queries", at.query),
    added("of_keys", at.key),
    added("shared", 0),
  )


def of_floats(pairs: Pairs | None, floats: list[Any]) -> Any:
  """The pairs with `floats` for arrays of floats and None for the others."""
  leaves, tree = jax.tree.flatten(pairs)
  rest = iter(floats)
  return tree.unflatten(
    next(rest) if jnp.issubdtype(a.dtype, jnp.inexact) else None for a in leaves
  )
