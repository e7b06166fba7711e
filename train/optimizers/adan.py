"""Adan (Xie et al. 2022, arXiv:2208.06677)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..ranges import require
from .width import entrywise

width_factor = entrywise


@dataclasses.dataclass(frozen=True)
class Options:
  """The decays are those of a mean: 1 - beta in the paper's own notation.

  Weight decay is decoupled as for every optimizer here, where the paper
  divides by 1 + lr * decay: the same to first order. Takes AdamW's opt.lr, or
  up to three times it.
  """

  b1: float = 0.98  # of the gradient
  b2: float = 0.92  # of the gradient's change
  b3: float = 0.99  # of the square
  eps: float = 1e-8

  def __post_init__(self):
    require("adan", self, "in [0, 1)", "b1", "b2", "b3")
    require("adan", self, "positive", "eps")


def adan(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  """(m + b2 v) / sqrt(n), of the gradient, its change and their square.

  Not optax's: there the weight of v, 1 - beta_2 = 0.92 in the paper's
  notation, is 0.08.
  """
  del specs
  b1, b2, b3 = options.b1, options.b2, options.b3

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return {"mean": zeros, "change": zeros, "square": zeros, "last": zeros}

  def update(updates, state, params=None, **extra: Any):
    del params
    grads = updates
    t = (extra["count"] + 1).astype(jnp.float32)

    def change_of(g, last):
      # There is no gradient before the first one: it does not change then.
      return jnp.where(t == 1, 0, g - last)

    def mean(decay, old, new):
      return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)

    changes = jax.tree.map(change_of, grads, state["last"])
    ahead = jax.tree.map(lambda g, c: jnp.square(g + b2 * c), grads, changes)
    state = {
      "mean": mean(b1, state["mean"], grads),
      "change": mean(b2, state["change"], changes),
      "square": mean(b3, state["square"], ahead),
      "last": grads,
    }

    def direction(m, v, n):
      step = m / (1 - b1**t) + b2 * v / (1 - b2**t)
      return step / (jnp.sqrt(n / (1 - b3**t)) + options.eps)

    directions = jax.tree.map(
      direction, state["mean"], state["change"], state["square"]
    )
    return directions, state

  return optax.GradientTransformationExtraArgs(init, update)
