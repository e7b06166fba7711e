"""Zamba's shared block of attention (Glorioso et al. 2024, arXiv:2405.16712).

All layers with it, a few among many recurrent ones, have the same attention and
feed-forward network; their own are a matrix and a recurrence.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ..config import ModelConfig
from ..context import Context
from ..ffn import FFNS
from ..linear import Projection
from ..norms import NORMS
from . import MIXERS, State
from .composed import Composed


@dataclasses.dataclass(frozen=True)
class Options:
  mixer: str = "mamba"  # what follows the block in its layers
  ffn: str = "glu"  # of the block: one that works on each token alone

  def __post_init__(self):
    MIXERS.check(self.mixer, f"mixer={self.mixer!r}")
    FFNS.check(self.ffn, f"ffn={self.ffn!r}")
    if self.mixer == SharedBlock.word:
      raise UserError(f"mixer={self.mixer!r} would never end; choose another")

  def chooses(self) -> Iterator[tuple[Any, str]]:
    yield MIXERS, "attention"
    yield MIXERS, self.mixer
    yield FFNS, self.ffn


class Shared(nn.Module):
  """ffn(norm(attention(norm([x, e])))): no residual stream within.

  Attention's queries, keys and values are made of twice the width.
  """

  config: ModelConfig

  @nn.compact
  def __call__(
    self,
    x_BTD: Float[Array, "B T D"],
    embedded_BTD: Float[Array, "B T D"],
    ctx: Context,
    state: State | None = None,
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    both_BTX = jnp.concatenate([x_BTD, embedded_BTD], axis=-1)
    both_BTX = NORMS[c.norm](c, name="norm")(both_BTX)
    attend = MIXERS["attention"](c, name="attention")
    y_BTD, state, *_ = attend(both_BTX, ctx, state)
    y_BTD = NORMS[c.norm](c, name="ffn_norm")(y_BTD)
    ffn = FFNS[SharedBlock.options(c).ffn](c, name="ffn")
    return ffn(y_BTD, ctx), state


class SharedBlock(Composed):
  """mixer(norm(x + W shared(x, e))), with the embeddings e.

  The decode state holds attention's, of this layer, and the mixer's.
  """

  word = "shared_block"
  option_type = Options
  positional = True
  of_stream = True
  of_embedding = True

  @classmethod
  def parts(cls, config):
    own = MIXERS[cls.options(config).mixer]
    return {"attention": MIXERS["attention"], "mixer": own}

  @classmethod
  def check(cls, config):
    o = cls.options(config)
    key = f"model.opts.{cls.word}"
    if config.residual != "pre":
      raise UserError(
        f"model.residual={config.residual!r}: model.mixer={cls.word!r} adds its"
        " block before the layer's norm; set it to 'pre'"
      )
    own = MIXERS[o.mixer]
    more = own.of_source or own.of_stream or own.passed(config)
    if more or own.positional or not (own.causal and own.decodable):
      raise UserError(
        f"{key}.mixer={o.mixer!r} must be a recurrence that sees nothing but"
        " its own input; choose mamba or mamba2"
      )
    if not FFNS[o.ffn].expert:
      raise UserError(
        f"{key}.ffn={o.ffn!r} does more than work on each token alone; choose"
        " glu or mlp"
      )
    for part in cls.parts(config).values():
      part.check(config)

  @classmethod
  def position_word(cls, config):
    return MIXERS["attention"].position_word(config)

  @classmethod
  def tied(cls, config):
    return Shared(config, parent=None)

  @nn.compact
  def __call__(self, x_BTD, ctx, state=None):
    c, o, after = self.config, self.options(self.config), {}
    D = c.d_model
    e_BTD = x_BTD if ctx.embedded_BTD is None else ctx.embedded_BTD
    before = state or {}
    assert ctx.tied is not None
    params = {"params": ctx.tied[self.word]}
    y_BTD, after["attention"] = self.tied(c).apply(
      params, x_BTD, e_BTD, ctx, before.get("attention")
    )
    axes = ("embed", "norm")
    down = Projection(c, "BTD,DE->BTE", (D, D), axes, bias=False, name="down")
    x_BTD = NORMS[c.norm](c, name="norm")(x_BTD + down(y_BTD))
    mixer = MIXERS[o.mixer](c, name="mixer")
    y_BTD, after["mixer"], *_ = mixer(x_BTD, ctx, before.get("mixer"))
    return y_BTD, after if state else None
