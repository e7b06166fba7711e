"""Sophia-G (Liu et al. 2023, arXiv:2305.14342).

The curvature is the Gauss-Newton-Bartlett estimate (section 2.3): labels drawn
from the model itself, the squared gradient of their mean loss, times their
number.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..ranges import require
from .width import unknown

SAMPLED_GRADS = True
width_factor = unknown(
  "sophia",
  "its step is as large as a sign's where it is clipped, and elsewhere grows"
  " with the width",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """An entry moves by opt.lr at most: take a third of AdamW's to all of it.

  While the curvature, which starts at 0, is young, most entries move so far;
  the paper tunes gamma so that later 10 to 50 % of them do not.
  """

  b1: float = 0.96  # of the gradient
  b2: float = 0.99  # of the curvature, in updates of it
  gamma: float = 0.05  # a smaller one clips more of the entries
  eps: float = 1e-12
  every: int = 10  # updates between estimates of the curvature

  def __post_init__(self):
    require("sophia", self, "in [0, 1)", "b1", "b2")
    require("sophia", self, "positive", "gamma", "eps")
    require("sophia", self, "at least 1", "every")


def sophia(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  """clip(m / max(gamma * h, eps), 1), algorithm 3; h as of algorithm 2."""
  del specs
  b1, b2 = options.b1, options.b2

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return {"mean": zeros, "curvature": zeros}

  def update(updates, state, params=None, **extra: Any):
    del params
    old = state["curvature"]

    def estimate(_):
      sampled, weight = extra["sampled_grads"]()
      return jax.tree.map(
        lambda h, g: b2 * h + (1 - b2) * weight * jnp.square(g), old, sampled
      )

    curvature = jax.lax.cond(
      extra["count"] % options.every == 0, estimate, lambda _: old, None
    )
    mean = jax.tree.map(
      lambda m, g: b1 * m + (1 - b1) * g, state["mean"], updates
    )

    def direction(m, h):
      step = m / jnp.maximum(options.gamma * h, options.eps)
      return jnp.clip(step, -1, 1)

    directions = jax.tree.map(direction, mean, curvature)
    return directions, {"mean": mean, "curvature": curvature}

  return optax.GradientTransformationExtraArgs(init, update)
