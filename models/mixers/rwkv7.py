"""RWKV-7, Goose (Peng et al. 2025, arXiv:2503.14456; section 4).

Time mixing; model.ffn=channel_mix without receptance goes with it. The first
layer's values go into those of all later ones. A layer that `model.first` names
is the first for certain, and has no parameters to take values in, as in the
published models; in model.pattern all layers have the same.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ..linear import Projection
from ..param import Init, declare, normal
from . import rwkv5
from .recurrence import HEADS, HeadNorm, HeadOptions, last_ones
from .rwkv6 import SMALL

STRONGEST = math.exp(-0.5)  # minus the log of the strongest decay


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  # Ranks of what makes decays, removal rates, shares of the first layer's
  # values, and gates; 0: the published models', by model.d_model.
  decay_rank: int = 0
  rate_rank: int = 0
  value_rank: int = 0
  gate_rank: int = 0

  def __post_init__(self):
    super().__post_init__()
    for key in ("decay_rank", "rate_rank", "value_rank", "gate_rank"):
      if getattr(self, key) < 0:
        raise UserError(
          f"{key}={getattr(self, key)} must be positive, or 0 for that of the"
          " published models"
        )


def published_rank(factor: float, power: float, D: int) -> int:
  """factor D^power, as a multiple of 32."""
  return max(1, round(factor * D**power / 32)) * 32


@functools.cache
def initial(
  base: float, slope: float = 0.0, power: float = 1.0, ends: float = 0.0
) -> Init:
  """base + slope c^power + ends h |h| for each channel of each head.

  c goes from 0 to 1 over all channels, h from -1 to 1 over those of a head. The
  published values, at half the depth.
  """

  def init(key, shape, dtype):
    del key
    N, K = shape
    c_NK = jnp.arange(N * K).reshape(N, K) / max(N * K - 1, 1)
    h_K = 2 * jnp.arange(K) / max(K - 1, 1) - 1
    value_NK = base + slope * c_NK**power + ends * h_K * jnp.abs(h_K)
    return value_NK.astype(dtype)

  return init


class RWKV7(rwkv5.RWKV5):
  """S = S (diag(w) - k^ (a k^)^T) + v k^T, with k^ of length 1.

  Each channel decays by its own w and each key removes by its own rates a.
  """

  word = "rwkv7"
  option_type = Options
  mixes: ClassVar = {
    "r": (0.1, 0.0),
    "w": (0.45, 0.0),
    "k": (0.35, 0.0),
    "v": (0.35, 0.0),
    "a": (0.45, 0.0),
    "g": (0.1, 0.0),
  }

  @classmethod
  def passed(cls, config):
    return config.n_heads, cls.sizes(config)[1]

  def low_rank(
    self,
    x_BTD: Float[Array, "B T D"],
    name: str,
    rank: int,
    size: int,
    between: Callable[[Array], Array] = lambda a: a,
  ) -> Float[Array, "B T N H"]:
    """To each head's `size` numbers through `rank` of all, in fp32."""
    c, D, N = self.config, self.config.d_model, self.config.n_heads
    one = (c, "BTD,DR->BTR", (D, rank), ("embed", "latent"))
    low_BTR = Projection(*one, bias=False, name=f"{name}_down")(x_BTD)
    two = (c, "BTR,RNH->BTNH", (rank, N, size), ("latent", *HEADS))
    # What a gate is made of has no value of its own to start from.
    start = None if name == "gate" else normal(SMALL)
    up = Projection(*two, bias=False, initial=start, name=f"{name}_up")
    return up(between(low_BTR)).astype(jnp.float32)

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o, D = self.config, self.options(self.config), self.config.d_model
    (K, V), N = self.sizes(c), c.n_heads
    (before_BTD, _), shift = last_ones(x_BTD, starts_BT, state["shift"])
    of = self.mixed(x_BTD, before_BTD)

    def made(name, start, size=K):
      value = declare(self, name, start, (N, size), HEADS, c.param_dtype)
      return value.astype(jnp.float32)

    decay_rank = o.decay_rank or published_rank(1.8, 0.5, D)
    rate_rank = o.rate_rank or published_rank(1.8, 0.5, D)
    value_rank = o.value_rank or published_rank(1.3, 0.5, D)
    gate_rank = o.gate_rank or published_rank(0.6, 0.8, D)

    r_BTNK = self.by_head(of["r"], "r", K).astype(jnp.float32)
    k_BTNK = self.by_head(of["k"], "k", K).astype(jnp.float32)
    own_BTNV = v_BTNV = self.by_head(of["v"], "v", V, to_branch=True)
    passed_BTNV = v_BTNV
    if ctx.first_values is not None:
      given_BTNV = ctx.first_values[self.word]
      share = made("value_bias", initial(0.93, -0.4), V)
      share += self.low_rank(of["v"], "value", value_rank, V)
      v_BTNV = v_BTNV.astype(jnp.float32)
      v_BTNV += (given_BTNV - v_BTNV) * jax.nn.sigmoid(share)
      is_first = jnp.asarray(ctx.layer) == c.first_of(self.word)
      v_BTNV = jnp.where(is_first, own_BTNV, v_BTNV)
      passed_BTNV = jnp.where(is_first, own_BTNV, given_BTNV)

    decay = made("decay_bias", initial(-5.5, 6.0, 1 + 0.5**0.3, 2.5))
    decay += self.low_rank(of["w"], "decay", decay_rank, K, jnp.tanh)
    rate = made("rate_bias", initial(-0.39, 0.4, ends=0.3))
    rate += self.low_rank(of["a"], "rate", rate_rank, K)
    a_BTNK = jax.nn.sigmoid(rate)
    removed_BTNK = k_BTNK * made("mix_removed", initial(0.76, -0.1))
    square = jnp.square(removed_BTNK).sum(-1, keepdims=True)
    removed_BTNK *= jax.lax.rsqrt(jnp.maximum(square, 1e-24))
    k_BTNK *= 1 + (a_BTNK - 1) * made("mix_kept", initial(1.02))
    o_BTNV, after = dispatch("delta_rule", c.implementation)(
      r_BTNK,
      k_BTNK,
      v_BTNV,
      -STRONGEST * jax.nn.sigmoid(decay),
      -removed_BTNK,
      removed_BTNK * a_BTNK,
      starts_BT,
      state["state"],
      least=-STRONGEST,
    )
    norm = HeadNorm(c, rwkv5.NORM_EPS, True, "each", bias=True, name="norm")
    bonus = (r_BTNK * k_BTNK * made("bonus", initial(-0.04))).sum(
      -1, keepdims=True
    )
    y_BTNV = norm(o_BTNV) + bonus * v_BTNV
    gate = self.low_rank(of["g"], "gate", gate_rank, V, jax.nn.sigmoid)
    kept = {"state": after, "shift": shift}
    return self.out(y_BTNV * gate), kept, passed_BTNV.astype(x_BTD.dtype)
