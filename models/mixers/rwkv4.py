"""RWKV-4 (Peng et al. 2023, arXiv:2305.13048).

Time mixing alone: any model.ffn goes with it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from ...kernels.dispatch import dispatch
from ..param import declare
from .recurrence import CHANNELS, Leaf, Recurrence, last_ones
from .stabilizer import largest

EMPTY = -1e30  # log of the weights before a document


@dataclasses.dataclass(frozen=True)
class Options:
  """None."""


def _initial_mix(power: float, more: float):
  def init(key, shape, dtype):
    del key
    share = jnp.arange(shape[0]) / shape[0]
    return (share**power + more).astype(dtype)

  return init


# Weights of the token itself, as in the middle of the paper's depth.
_MIXES = {
  "k": _initial_mix(0.5, 0.0),
  "v": _initial_mix(0.5, 0.15),
  "r": _initial_mix(0.25, 0.0),
}


def _initial_rate(key, shape, dtype):
  del key
  share = jnp.arange(shape[0]) / max(shape[0] - 1, 1)
  return (-5 + 8 * share**1.35).astype(dtype)


def _initial_bonus(key, shape, dtype):
  del key
  zigzag = (jnp.arange(shape[0]) + 1) % 3 - 1
  return (math.log(0.3) + 0.5 * zigzag).astype(dtype)


class RWKV4(Recurrence):
  """A mean of values by weights e^k that decay, each channel by itself."""

  word = "rwkv4"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    D = config.d_model
    return {
      "sums": Leaf((D, 2)),
      "largest": Leaf((D,)),
      "shift": Leaf((1, D), config.compute_dtype),
    }

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, D = self.config, self.config.d_model
    (before_BTD, _), kept = last_ones(x_BTD, starts_BT, state["shift"])

    def of(name):
      mix_D = declare(
        self, f"mix_{name}", _MIXES[name], (D,), ("norm",), c.param_dtype
      ).astype(x_BTD.dtype)
      mixed_BTD = mix_D * x_BTD + (1 - mix_D) * before_BTD
      y_BTE = self.into(mixed_BTD, name, (D,), CHANNELS, to_branch=name == "v")
      return y_BTE.astype(jnp.float32)

    k, v, r = of("k"), of("v"), jax.nn.sigmoid(of("r"))  # [B, T, D]
    axes, dtype = CHANNELS, c.param_dtype
    rate_D = declare(self, "log_rate", _initial_rate, (D,), axes, dtype)
    bonus_D = declare(self, "bonus", _initial_bonus, (D,), axes, dtype)
    decay = jnp.broadcast_to(-jnp.exp(rate_D.astype(jnp.float32)), k.shape)
    m, m_before = largest(decay, k, starts_BT, state["largest"], EMPTY)
    pair = jnp.stack([v, jnp.ones_like(v)], axis=-1)  # [B, T, D, 2]
    sums, after = dispatch("diagonal_scan", c.implementation)(
      jnp.exp(decay + m_before - m)[..., None],
      jnp.exp(k - m)[..., None] * pair,
      starts_BT,
      state["sums"],
    )
    # A token sees the sums before it, and itself with a bonus.
    earlier = jnp.concatenate([state["sums"][:, None], sums[:, :-1]], axis=1)
    earlier = jnp.where(starts_BT[..., None, None], 0, earlier)
    own = k + bonus_D
    top = jax.lax.stop_gradient(jnp.maximum(m_before, own))
    seen = jnp.exp(m_before - top)[..., None] * earlier
    seen += jnp.exp(own - top)[..., None] * pair
    y = r * seen[..., 0] / seen[..., 1]
    state = {"sums": after, "largest": m[:, -1], "shift": kept}
    return self.out(y), state
