"""What a layer adds to the loss, and what it counts, for each example.

A layer says `penalize` and `measure`; `lm.apply` hands on what they said, and
the objective weighs each example by its tokens, so that microbatches, meshes
and one big batch agree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .config import ModelConfig
from .watch import put

PENALTIES = "penalties"
MEASURES = "measures"
COLLECTIONS = (PENALTIES, MEASURES)


def penalize(module: nn.Module, name: str, loss_B: Float[Array, " B"]) -> None:
  """Adds to the loss of each example, per token of it."""
  put(module, PENALTIES, name, loss_B)


def measure(
  module: nn.Module, name: str, value_B: Float[Array, "B ..."]
) -> None:
  """Shows a mean over the tokens of each example among the metrics."""
  put(module, MEASURES, name, value_B)


def total(seen: Mapping[str, Any]) -> Float[Array, " B"] | None:
  """The sum of all penalties of all layers; None where there are none."""
  found = [a.sum(0) for _, a in named(seen.get(PENALTIES, {}))]
  return sum(found[1:], found[0]) if found else None


def by_layer(
  config: ModelConfig, seen: Mapping[str, Any]
) -> dict[str, Float[Array, "L B ..."]]:
  """Each measure of the layers that have it, in the order of the depth."""
  found: dict[str, dict[int, Array]] = {}
  for group, _, _ in config.groups:
    for place, block in seen.get(MEASURES, {}).get(group, {}).items():
      for name, value in named(block):
        depths = config.depths(group, int(place))
        found.setdefault(name, {}).update(zip(depths, value, strict=True))
  return {
    name: jnp.stack([of[depth] for depth in sorted(of)])
    for name, of in found.items()
  }


def named(tree: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
  """(last key, leaf) of every leaf."""
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from named(value)
    else:
      yield key, value
