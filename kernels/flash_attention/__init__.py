"""Softmax attention; choose an implementation through `kernels.dispatch`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("of_queries", "of_keys", "shared"),
  meta_fields=("function", "seen"),
)
@dataclasses.dataclass(frozen=True)
class Pairs:
  """A function of pairs of a query and a key, computed on blocks of them.

  `function(*block, of_queries, of_keys, shared)` gets the arrays of a block's
  queries and keys, and `shared` whole. Arrays of floats get gradients.

  Attributes:
    function: of `scores`, a map `(s_BNTS, q, k, shared) -> s_BNTS`; of `mask`,
      `(q, k, shared) -> bool` of who is seen, a shape that broadcasts to
      [B, N, T, S].
    of_queries: arrays [B or 1, T, ...].
    of_keys: arrays [B or 1, S, ...].
    shared: any arrays, such as a table.
    seen: of a mask, how many keys a query may see, which is what it is said to
      cost; 0: all.
  """

  function: Callable[..., Array]
  of_queries: tuple[Any, ...] = ()
  of_keys: tuple[Any, ...] = ()
  shared: tuple[Any, ...] = ()
  seen: int = 0

  def __call__(self, *block: Array) -> Array:
    return self.function(*block, self.of_queries, self.of_keys, self.shared)

  def at(self, query: Any, n_queries: int, key: Any, n_keys: int) -> "Pairs":
    """Those of a block, which begins at `query` and `key`."""

    def cut(start, n):
      return lambda a: jax.lax.dynamic_slice_in_dim(a, start, n, axis=1)

    return dataclasses.replace(
      self,
      of_queries=jax.tree.map(cut(query, n_queries), self.of_queries),
      of_keys=jax.tree.map(cut(key, n_keys), self.of_keys),
    )


def merge(
  a_BTNH: Float[Array, "B T N H"],
  a_lse_BTN: Float[Array, "B T N"],
  b_BTNH: Float[Array, "B T N H"],
  b_lse_BTN: Float[Array, "B T N"],
) -> tuple[Float[Array, "B T N H"], Float[Array, "B T N"]]:
  """Attention over two sets of keys, from that over each and its logsumexp."""
  lse_BTN = jnp.logaddexp(a_lse_BTN, b_lse_BTN)
  a_BTN1 = jnp.exp(a_lse_BTN - lse_BTN)[..., None]
  b_BTN1 = jnp.exp(b_lse_BTN - lse_BTN)[..., None]
  out_BTNH = a_BTNH * a_BTN1 + b_BTNH * b_BTN1
  return out_BTNH.astype(a_BTNH.dtype), lse_BTN
