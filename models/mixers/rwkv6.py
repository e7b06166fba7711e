"""RWKV-6, Finch (Peng et al. 2024, arXiv:2404.05892; section 4.2).

Time mixing alone: any model.ffn goes with it.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from ...errors import at_least
from ..linear import Projection
from ..param import normal
from . import rwkv5
from .recurrence import HEADS, HeadOptions

SMALL = 0.01  # standard deviation of what ends a low-rank path


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  mix_rank: int = 32  # of each of the five mixes that follow the token
  decay_rank: int = 64  # of the decays that do

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "mix_rank", "decay_rank")


class RWKV6(rwkv5.RWKV5):
  """RWKV-5 whose mixes and decays follow the token."""

  word = "rwkv6"
  option_type = Options
  mixes: ClassVar = {"w": (0.5, 0.0)} | rwkv5.RWKV5.mixes

  def mixed(self, x_BTD, before_BTD):
    c, M = self.config, len(self.mixes)
    D, R = c.d_model, self.options(self.config).mix_rank
    away_BTD = before_BTD - x_BTD
    one = (c, "BTD,DMR->BTMR", (D, M, R), ("embed", "latent", "latent"))
    low_BTMR = Projection(*one, bias=False, name="mix_down")(
      x_BTD + self.mix_of("x") * away_BTD
    )
    two = (c, "BTMR,MRD->BTMD", (M, R, D), ("latent", "latent", "embed"))
    up = Projection(*two, bias=False, initial=normal(SMALL), name="mix_up")
    more_BTMD = up(jnp.tanh(low_BTMR))
    return {
      name: x_BTD + (self.mix_of(name) + more_BTMD[:, :, i]) * away_BTD
      for i, name in enumerate(self.mixes)
    }

  def log_rates(self, mixed, base_NK):
    c, (N, K) = self.config, base_NK.shape
    D, R = c.d_model, self.options(self.config).decay_rank
    one = (c, "BTD,DR->BTR", (D, R), ("embed", "latent"))
    low_BTR = Projection(*one, bias=False, name="decay_down")(mixed["w"])
    two = (c, "BTR,RNH->BTNH", (R, N, K), ("latent", *HEADS))
    up = Projection(*two, bias=False, initial=normal(SMALL), name="decay_up")
    return base_NK + up(jnp.tanh(low_BTR)).astype(jnp.float32)
