"""LAMB (You et al. 2019, arXiv:1904.00962)."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from ..ranges import require
from . import WholeStep
from .leafwise import layer_rms
from .width import unknown

width_factor = unknown(
  "lamb",
  "its step is relative to a parameter's size, for which there is a rule only"
  " at initialisation",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """A layer moves by opt.lr of its own size: about 1e-2, ten times AdamW's."""

  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-6

  def __post_init__(self):
    require("lamb", self, "in [0, 1)", "b1", "b2")
    require("lamb", self, "positive", "eps")


def lamb(options: Options, specs) -> WholeStep:
  """u = Adam's direction + decay * w; the step is rate * |w| / |u| * u.

  Norms are those of each layer's own parameter; the ratio is 1 where one of
  them is 0. The weight decay is in the ratio, so this is a whole step.
  """
  adam = optax.scale_by_adam(options.b1, options.b2, options.eps)

  def step(spec, direction, param, rate, decay):
    u = direction + decay * param
    size, length = layer_rms(spec, param), layer_rms(spec, u)
    both = (size > 0) & (length > 0)
    return -rate * jnp.where(both, size / jnp.where(both, length, 1), 1) * u

  def update(grads, state, params, *, lr, rates, decay, **extra):
    del lr, extra
    directions, state = adam.update(grads, state)
    return jax.tree.map(step, specs, directions, params, rates, decay), state

  return WholeStep(adam.init, update)
