"""What a layer adds to the loss, and what it counts, for each example.

A layer says `penalize` and `measure`; `lm.apply` hands on what they said, and
the objective weighs each example by its tokens, so that microbatches, meshes
and one big batch agree.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .config import ModelConfig

PENALTIES = "penalties"
MEASURES = "measures"
COLLECTIONS = (PENALTIES, MEASURES)


def penalize(module: nn.Module, name: str, loss_B: Float[Array, " B"]) -> None:
  """Adds to the loss of each example, per token of it."""
  _sow(module, PENALTIES, name, loss_B)


def measure(
  module: nn.Module, name: str, value_B: Float[Array, "B ..."]
) -> None:
  """Shows a mean over the tokens of each example among the metrics."""
  _sow(module, MEASURES, name, value_B)


def _sow(module, collection, name, value) -> None:
  module.sow(
    collection, name, value, init_fn=lambda: 0, reduce_fn=lambda _, new: new
  )


def total(seen: Mapping[str, Any]) -> Float[Array, " B"] | None:
  """The sum of all penalties of all layers; None where there are none."""
  found = [a.sum(0) for a in _leaves(seen.get(PENALTIES, {}))]
  return sum(found[1:], found[0]) if found else None


def by_layer(
  config: ModelConfig, seen: Mapping[str, Any]
) -> dict[str, Float[Array, "L B ..."]]:
  """Each measure of the layers that have it, in the order of the depth."""
  found: dict[str, list[tuple[int, Any]]] = {}
  depth = 0
  for name, layers, repeats in config.groups:
    for place, block in seen.get(MEASURES, {}).get(name, {}).items():
      for path, value in _named(block):
        found.setdefault(path, []).extend(
          (depth + i * len(layers) + int(place), value[i])
          for i in range(repeats)
        )
    depth += len(layers) * repeats
  return {
    path: jnp.stack([value for _, value in sorted(of, key=lambda a: a[0])])
    for path, of in found.items()
  }


def _named(tree: Mapping[str, Any]):
  """(last key, leaf) of every leaf."""
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _named(value)
    else:
      yield key, value


def _leaves(tree: Mapping[str, Any]):
  return [value for _, value in _named(tree)]
