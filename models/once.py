"""What is made once, for all layers; and a mixer on its own."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .config import ModelConfig
from .context import Context
from .mixers import MIXERS, State
from .positions import POSITIONS


class Once(nn.Module):
  """Runs the `once` of each position of `mixers`; by word, None where none."""

  config: ModelConfig
  mixers: tuple[str, ...]

  @nn.compact
  def __call__(self) -> dict[str, Any] | None:
    made = {}
    words = [MIXERS[mixer].position_word(self.config) for mixer in self.mixers]
    for word in dict.fromkeys(word for word in words if word):
      module = POSITIONS[word].once(self.config)
      if module is not None:
        made[word] = module()
    return made or None


class Tied(nn.Module):
  """The parameters that all layers of a mixer share; by word, None: none."""

  config: ModelConfig
  mixers: tuple[str, ...]

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> dict[str, Any] | None:
    found = {}
    for word in self.mixers:
      if (block := MIXERS[word].tied(self.config)) is not None:
        found[word] = self.param(word, _declared, block, x_BTD, ctx)
    return found or None


def _declared(key, block, x_BTD, ctx):
  """All that a block declares; the layers call it, each on its own."""
  return block.init(key, x_BTD, x_BTD, ctx)["params"]


class Alone(nn.Module):
  """One mixer with what it needs from before the layers, for its proofs."""

  config: ModelConfig
  mixer: str

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    shared = Once(self.config, (self.mixer,), name="positions")()
    entry = MIXERS[self.mixer]
    passed = entry.passed(self.config)
    if passed is not None and ctx.first_values is None:
      # As a later layer, which has all of the mixer's parameters.
      values = jnp.ones((*x_BTD.shape[:2], *passed), x_BTD.dtype)
      ctx = dataclasses.replace(ctx, first_values={self.mixer: values}, layer=1)
    ctx = ctx.sharing(shared)
    tied = Tied(self.config, (self.mixer,), name="tied")(x_BTD, ctx)
    mixer = entry(self.config, name="mixer")
    ctx = dataclasses.replace(ctx, tied=tied)
    y_BTD, state, *_ = mixer(x_BTD, ctx, state)
    return y_BTD, state
