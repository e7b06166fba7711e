"""Exponential moving average of the weights (Polyak and Juditsky 1992).

With decay d, the mean after t updates has the weights d^(t - i) of the
weights after update i <= t, divided by their sum: it forgets the initial
weights at once, as Adam's means do (Kingma and Ba 2015, section 3).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from ..ranges import require
from . import Average


@dataclasses.dataclass(frozen=True)
class Options:
  """1 / (1 - decay) updates are remembered."""

  decay: float = 0.999  # in (0, 1]; 1.0: the mean of all updates, as in 1992

  def __post_init__(self):
    require("ema", self, "in (0, 1]", "decay")


def ema(options: Options) -> Average:
  def init(params):
    # A copy: the weights' own buffers are donated to the update.
    return {"mean": jax.tree.map(jnp.copy, params)}

  def update(state, params, count):
    t = (count + 1).astype(jnp.float32)
    if options.decay == 1:
      share = 1 / t
    else:
      # 1 - d^t, without the cancellation that fp32 suffers for d near 1.
      share = (1 - options.decay) / -jnp.expm1(t * math.log(options.decay))
    mean = jax.tree.map(lambda m, p: m + share * (p - m), state["mean"], params)
    return {"mean": mean}

  def eval_params(state, params):
    return jax.tree.map(lambda m, p: m.astype(p.dtype), state["mean"], params)

  return Average(init, update, eval_params)
