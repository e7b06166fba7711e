"""RWKV-6, Finch (Peng et al. 2024, arXiv:2404.05892; section 4.2).

Time mixing alone: any model.ffn goes with it.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array

from ...errors import UserError
from ..linear import Projection
from ..param import declare, normal
from . import rwkv5
from .recurrence import HeadOptions

SMALL = 0.01  # standard deviation of what ends a low-rank path


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  mix_rank: int = 32  # of each of the five mixes that follow the token
  decay_rank: int = 64  # of the decays that do

  def __post_init__(self):
    super().__post_init__()
    if self.mix_rank < 1 or self.decay_rank < 1:
      raise UserError(
        f"mix_rank={self.mix_rank} and decay_rank={self.decay_rank} must be at"
        " least 1"
      )


class RWKV6(rwkv5.RWKV5):
  """RWKV-5 whose mixes and decays follow the token."""

  word = "rwkv6"
  option_type = Options
  mixes = ("w", "k", "v", "r", "g")

  def mixed(self, x_BTD, before_BTD):
    c, M = self.config, len(self.mixes)
    D, R = c.d_model, self.options(self.config).mix_rank
    away_BTD = before_BTD - x_BTD

    def mix(name):
      init = rwkv5.initial_mix(name)
      mix_D = declare(self, f"mix_{name}", init, (D,), ("norm",), c.param_dtype)
      return mix_D.astype(x_BTD.dtype)

    one = (c, "BTD,DMR->BTMR", (D, M, R), ("embed", "latent", "latent"))
    low_BTMR = Projection(*one, bias=False, name="low_mix")(
      x_BTD + mix("x") * away_BTD
    )
    up_MRD = declare(
      self,
      "low_mix_up",
      normal(SMALL),
      (M, R, D),
      ("latent", "latent", "embed"),
      c.param_dtype,
      ("batch", "in", "out"),
    ).astype(x_BTD.dtype)
    more_BTMD = jnp.einsum("BTMR,MRD->BTMD", jnp.tanh(low_BTMR), up_MRD)
    return {
      name: x_BTD + (mix(name) + more_BTMD[:, :, i]) * away_BTD
      for i, name in enumerate(self.mixes)
    }

  def log_rates(self, mixed, base_NK: Array):
    c, (N, K) = self.config, base_NK.shape
    R = self.options(c).decay_rank
    down = (c, "BTD,DR->BTR", (c.d_model, R), ("embed", "latent"))
    low_BTR = Projection(*down, bias=False, name="decay_down")(mixed["w"])
    up_RNK = declare(
      self,
      "decay_up",
      normal(SMALL),
      (R, N, K),
      ("latent", "heads", "head_dim"),
      c.param_dtype,
      ("in", "out", "out"),
    )
    low_BTR = jnp.tanh(low_BTR.astype(jnp.float32))
    more_BTNK = jnp.einsum("BTR,RNK->BTNK", low_BTR, up_RNK.astype("float32"))
    return base_NK + more_BTNK
