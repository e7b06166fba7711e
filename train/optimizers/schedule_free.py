"""Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ...models.param import Params
from ..ranges import require
from . import WholeStep
from .width import entrywise

# The averages are of steps, and as linear as they are.
width_factor = entrywise


@dataclasses.dataclass(frozen=True)
class Options:
  """For opt.schedule=constant with a warm-up, and 1 to 10 times AdamW's opt.lr.

  Another schedule is followed, as any optimizer follows it: the steps of z
  shrink, while the average gives each of them the same weight.
  """

  b1: float = 0.9  # of x in y = b1 x + (1 - b1) z; in (0, 1)
  b2: float = 0.999  # of the squared gradient
  eps: float = 1e-8
  # A step's weight in the average: (its number)^r * (largest rate so far)^p.
  weight_power: float = 0.0  # r
  weight_lr_power: float = 2.0  # p

  def __post_init__(self):
    # With b1 = 0 the average can not be told from y and z.
    require("schedule_free", self, "in (0, 1)", "b1")
    require("schedule_free", self, "in [0, 1)", "b2")
    require("schedule_free", self, "positive", "eps")
    require(
      "schedule_free", self, "at least 0", "weight_power", "weight_lr_power"
    )


def schedule_free(options: Options, specs) -> WholeStep:
  """The weights that are trained are y; those that are evaluated are x.

  z takes the steps of Adam without momentum, from gradients at y; x is z's
  average; y is between the two. Algorithm 1; the weight decay is that of y.
  """
  del specs
  b1, b2 = options.b1, options.b2
  square = optax.scale_by_rms(
    b2, options.eps, eps_in_sqrt=False, bias_correction=True
  )

  def init(params):
    return {
      # A copy: the weights' own buffers are donated to the update.
      "z": jax.tree.map(jnp.copy, params),
      "square": square.init(params),
      "largest_lr": jnp.zeros(()),
      "weights": jnp.zeros(()),
    }

  def update(grads, state, params, *, lr, rates, decay, count, **extra):
    del extra
    directions, square_state = square.update(grads, state["square"])
    largest = jnp.maximum(state["largest_lr"], lr)
    weight = (count + 1.0) ** options.weight_power
    weight *= largest**options.weight_lr_power
    weights = state["weights"] + weight
    # The share of this step in the average. All are 0 while the rate is 0.
    share = jnp.where(weights > 0, weight / jnp.maximum(weights, 1e-30), 0)

    def step(u, y, z, rate, d):
      u = rate * (u + d * y)
      # z' = z - u, x' = x + share (z' - x), y' = b1 x' + (1 - b1) z', less y.
      return share * (z - y) - (1 - b1 * (1 - share)) * u, z - u

    pairs = jax.tree.map(step, directions, params, state["z"], rates, decay)
    updates, z = (
      jax.tree.map(lambda _, pair, i=i: pair[i], params, pairs) for i in (0, 1)
    )
    return updates, {
      "z": z,
      "square": square_state,
      "largest_lr": largest,
      "weights": weights,
    }

  return WholeStep(init, update)


def eval_params(options: Options, state: Any, params: Params) -> Params:
  """x, from y and z."""
  b1 = options.b1
  return jax.tree.map(
    lambda y, z: ((y - (1 - b1) * z) / b1).astype(y.dtype), params, state["z"]
  )
