"""SCHEDULES: the learning rate over time, as a factor of `opt.lr`.

An entry is a function `(step, steps, warmup, options) -> factor`, where step
counts updates since the end of a warm-up of `warmup` updates, of `steps` in
all. It raises UserError for a warm-up that it can't follow.
"""

from collections.abc import Callable

import jax
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
    "inverse_sqrt": "inverse_sqrt:inverse_sqrt",
    "linear": "linear:linear",
    "one_cycle": "one_cycle:one_cycle",
    "restarts": "restarts:restarts",
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
    factor = entry(step, max(steps - warmup, 1), warmup, options)
    # The first update already moves: it has 1/warmup of the peak.
    rise = jnp.minimum(1.0, (count + 1) / max(warmup, 1))
    return config.lr * rise * factor

  # What can't work is refused here, not when the update is traced.
  jax.eval_shape(learning_rate, jax.ShapeDtypeStruct((), jnp.int32))
  return learning_rate
