"""Stochastic gradient descent with momentum (Sutskever et al. 2013)."""

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class Options:
  momentum: float = 0.9
  nesterov: bool = False


def sgd(options: Options, specs) -> optax.GradientTransformation:
  del specs
  if not options.momentum:
    return optax.identity()
  return optax.trace(options.momentum, options.nesterov)
