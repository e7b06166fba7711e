"""Statistics of activations, computed only where a caller asks for them.

`watch` does nothing unless Flax's collection `intermediates` is mutable, as it
is in `lm.watched` alone, or `activations`, which holds the arrays themselves,
as it is in `lm.activations`: the program of a usual step does not know of it.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .context import Context

COLLECTION = "intermediates"
KEPT = "activations"
STATISTICS = ("rms", "max_abs", "zeros")


def watch(
  module: nn.Module, name: str, x_BTD: Float[Array, "B T D"], ctx: Context
) -> None:
  """Keeps STATISTICS of x, or x itself, under the name, for one layer."""
  keep(module, name, x_BTD)
  if module.is_mutable_collection(COLLECTION):
    put(module, COLLECTION, name, statistics(x_BTD, ctx))


def keeping(module: nn.Module) -> bool:
  return module.is_mutable_collection(KEPT)


def keep(module: nn.Module, name: str, x: Float[Array, "B T ..."]) -> None:
  """Keeps x under the name, for one layer, where arrays are asked for."""
  if keeping(module):
    put(module, KEPT, name, x)


def put(module: nn.Module, collection: str, name: str, value: Any) -> None:
  """Leaves a value in a collection, if the caller asked for that."""
  module.sow(
    collection,
    name,
    value,
    init_fn=lambda: value,
    reduce_fn=lambda _, new: new,
  )


def statistics(
  x_BTD: Float[Array, "B T D"], ctx: Context
) -> dict[str, Float[Array, ""]]:
  """Root mean square, largest magnitude and share of zeros, without padding."""
  x = x_BTD.astype(jnp.float32)  # fp32: squares of float16 end at 65504
  real = jnp.ones(x.shape[:2], bool)
  if ctx.segment_ids_BT is not None:
    real = ctx.segment_ids_BT != 0
  real = jnp.broadcast_to(real[..., None], x.shape)
  n = jnp.maximum(real.sum(dtype=jnp.float32), 1)
  return {
    "rms": jnp.sqrt(jnp.where(real, x * x, 0).sum() / n),
    "max_abs": jnp.where(real, jnp.abs(x), 0).max(),
    "zeros": (real & (x == 0)).sum(dtype=jnp.float32) / n,
  }
