"""RWKV-5, Eagle (Peng et al. 2024, arXiv:2404.05892; section 4.1).

Time mixing alone: any model.ffn goes with it.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...kernels.dispatch import dispatch
from ..config import ModelConfig
from ..param import declare
from .recurrence import (
  HeadNorm,
  HeadOptions,
  HeadRecurrence,
  Leaf,
  Mixed,
  last_ones,
)

NORM_EPS = 64e-5  # of states that are not divided by 8 before their norm


@functools.cache
def initial_mix(power: float, less: float):
  """Weights of the token before: 1 - (i / D)^power - less for channel i of D.

  The papers let the power fall with the depth. Layers that one loop stacks
  begin alike: as those of half the depth.
  """

  def init(key, shape, dtype):
    del key
    share = jnp.arange(shape[0]) / shape[0]
    return (1 - share**power - less).astype(dtype)

  return init


def initial_decay(key, shape, dtype):
  """Logarithms of rates from e^-6 to e^-1, over all channels."""
  del key
  share = jnp.arange(shape[0] * shape[1]) / max(shape[0] * shape[1] - 1, 1)
  return (-6 + 5 * share**1.35).reshape(shape).astype(dtype)


def initial_bonus(key, shape, dtype):
  """From 1/2 to 0 over the channels, up and down by a tenth in turn."""
  del key
  n = jnp.arange(shape[0] * shape[1])
  bonus = 0.5 * (1 - n / max(len(n) - 1, 1)) + 0.1 * ((n + 1) % 3 - 1)
  return bonus.reshape(shape).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  """Sizes alone."""


class RWKV5(HeadRecurrence):
  """A state whose channels decay at rates of their own, with a bonus for now.

  Queries are called receptance.

  Attributes:
    mixes: what moves towards the token before -> power and less of the weights
      that it starts with.
  """

  word = "rwkv5"
  option_type = Options
  mixes: ClassVar[dict[str, tuple[float, float]]] = {
    "k": (0.5, 0.0),
    "v": (0.5, 0.15),
    "r": (0.25, 0.0),
    "g": (0.25, 0.0),
  }

  @classmethod
  def leaves(cls, config: ModelConfig):
    shift = Leaf((1, config.d_model), config.compute_dtype)
    return super().leaves(config) | {"shift": shift}

  def mix_of(self, name: str) -> Float[Array, " D"]:
    """Weights of the token before, in what `name` is made of."""
    shape, dtype = (self.config.d_model,), self.config.param_dtype
    initial = initial_mix(*self.mixes.get(name, (0.5, 0.0)))
    mix_D = declare(self, f"mix_{name}", initial, shape, ("norm",), dtype)
    return mix_D.astype(self.config.compute_dtype)

  def mixed(
    self, x_BTD: Array, before_BTD: Array
  ) -> dict[str, Float[Array, "B T D"]]:
    """x, moved towards the token before by weights for each use."""
    away_BTD = before_BTD - x_BTD
    return {name: x_BTD + self.mix_of(name) * away_BTD for name in self.mixes}

  def log_rates(
    self, mixed: dict[str, Array], base_NK: Float[Array, "N K"]
  ) -> Float[Array, "..."]:
    """log(-log(decay)), [N, K] or of each token."""
    del mixed
    return base_NK

  def mix(
    self,
    x_BTD: Array,
    ctx,
    starts_BT: Bool[Array, "B T"],
    state,
  ) -> Mixed:
    c, (K, V), N = self.config, self.sizes(self.config), self.config.n_heads
    (before_BTD, _), kept = last_ones(x_BTD, starts_BT, state["shift"])
    mixed = self.mixed(x_BTD, before_BTD)
    r_BTNK, k_BTNK = (self.by_head(mixed[name], name, K) for name in "rk")
    v_BTNV = self.by_head(mixed["v"], "v", V, to_branch=True)
    gate_BTNV = jax.nn.silu(self.by_head(mixed["g"], "g", V, to_branch=True))
    axes, dtype = ("heads", "head_dim"), c.param_dtype
    base_NK = declare(self, "log_rate", initial_decay, (N, K), axes, dtype)
    bonus_NK = declare(self, "bonus", initial_bonus, (N, K), axes, dtype)
    rates = self.log_rates(mixed, base_NK.astype(jnp.float32))
    g_BTNK = jnp.broadcast_to(-jnp.exp(rates), r_BTNK.shape)
    o_BTNV, after = dispatch("linear_scan", c.implementation)(
      r_BTNK,
      k_BTNK,
      v_BTNV,
      g_BTNK,
      starts_BT,
      state["state"],
      bonus_NK.astype(jnp.float32),
    )
    norm = HeadNorm(c, NORM_EPS, True, "each", bias=True, name="norm")
    return self.out(norm(o_BTNV) * gate_BTNV), {"state": after, "shift": kept}
