"""Stochastic gradient descent with momentum (Sutskever et al. 2013)."""

import dataclasses

import optax

from ..ranges import require
from .width import by_gradient

width_factor = by_gradient


@dataclasses.dataclass(frozen=True)
class Options:
  """The direction is as large as the gradient: opt.lr may be 0.1 or more."""

  momentum: float = 0.9
  nesterov: bool = False

  def __post_init__(self):
    require("sgd", self, "in [0, 1)", "momentum")


def sgd(options: Options, specs) -> optax.GradientTransformation:
  del specs
  if not options.momentum:
    return optax.identity()
  return optax.trace(options.momentum, options.nesterov)
