"""SCHEDULES: the learning rate over time, as a factor of `opt.lr`.

An entry is a function `(step, steps, options) -> factor`, where step counts
updates since the end of the warm-up, of `steps` in all.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from ...registry import Registry
from ..optimizers import OptConfig

SCHEDULES = Registry(
  "schedule",
  "opt.schedule",
  __name__,
  {
    "constant": "constant:constant",
    "cosine": "cosine:cosine",
    "linear": "linear:linear",
    "wsd": "wsd:wsd",
  },
)


def make_schedule(config: OptConfig, steps: int) -> Callable[[Array], Array]:
  """Learning rate of update 0, 1, ..., after a linear warm-up to `opt.lr`."""
  entry = SCHEDULES[config.schedule]
  options = config.opts[config.schedule]
  warmup = config.warmup_steps

  def learning_rate(count: Array) -> Array:
    step = jnp.clip(count - warmup, 0, steps - warmup)
    factor = entry(step, max(steps - warmup, 1), options)
    # The first update already moves: it has 1/warmup of the peak.
    rise = jnp.minimum(1.0, (count + 1) / max(warmup, 1))
    return config.lr * rise * factor

  return learning_rate
