"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class Options:
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8


def adamw(options: Options, specs) -> optax.GradientTransformation:
  del specs
  return optax.scale_by_adam(options.b1, options.b2, options.eps)
