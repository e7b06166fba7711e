"""Which blocks of queries meet which keys: the geometry of the `xla` form."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Runs of blocks with keys of their own, each one loop: compile time does not
# grow with the length, and 1/16 of the scores of a causal mask are wasted.
_RUNS = 8


class Static(NamedTuple):
  """What the program is compiled for."""

  causal: bool
  window: int
  q_offset: int | None  # None: known at run time alone
  soft_cap: float
  block: int
  tile: int  # keys taken at a time; 0: all that a block may see


class Run(NamedTuple):
  """Queries `start` to `start + n * size`, each block with `span` keys."""

  start: int
  size: int
  n: int
  span: int


class Tile(NamedTuple):
  """Where a block's tile of keys lies; `fresh` are those of no tile before."""

  query: Any
  n_queries: int
  key: Any
  n_keys: int
  fresh: Any


def cut(a: Array, start: Any, size: int, axis: int) -> Array:
  return jax.lax.dynamic_slice_in_dim(a, start, size, axis)


def runs(static: Static, T: int, S: int) -> Iterator[Run]:
  """Cuts the queries into at most 2 * _RUNS runs of equal blocks."""
  block = static.block
  length = -(-T // (_RUNS * block)) * block
  if static.window and static.window + block < S:
    length = T  # each block has as many keys as any other
  for start in range(0, T, length):
    end = min(start + length, T)
    whole = (end - start) // block
    cuts = [
      (start, block, whole),
      (start + whole * block, end - start - whole * block, 1),
    ]
    for first, size, n in cuts:
      if not (n and size):
        continue
      span = S
      if static.causal and static.q_offset is not None:
        span = min(S, static.q_offset + first + n * size)
      if static.window:
        sides = 1 if static.causal else 2
        span = min(span, size + sides * (static.window - 1))
      yield Run(first, size, n, max(span, 1))


def first_key(static: Static, run: Run, i: Any, q_offset: Any, S: int) -> Any:
  """Where the `span` keys of a run's i-th block begin."""
  if not static.window or run.span == S:
    return 0
  first = q_offset + run.start + i * run.size - (static.window - 1)
  return jnp.clip(first, 0, S - run.span)


def tiles(static: Static, run: Run) -> tuple[int, int]:
  """(keys in a tile, tiles) of a block's span."""
  size = min(static.tile or run.span, run.span)
  return size, -(-run.span // size)


def loop(body, carry: Any, n: int) -> Any:
  """scan of `body` over 0 ... n - 1, without a loop where there is one."""
  if n == 1:
    carry, y = body(carry, 0)
    return carry, jax.tree.map(lambda a: a[None], y)
  return jax.lax.scan(body, carry, jnp.arange(n))
