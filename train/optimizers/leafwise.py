"""An optimizer made of one rule for one parameter, given its spec.

A rule sees a parameter with its layers stacked, "layers" being a batch axis:
it treats each layer as if it were alone, so that a model trains the same
whether its layers are scanned or not.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ...models.param import ParamSpec


def leafwise(
  init: Callable[[Any, Array], Any],
  update: Callable[..., tuple[Array, Any]],
  specs: Any,
) -> optax.GradientTransformationExtraArgs:
  """Maps a rule over the parameters.

  Args:
    init: `(spec, param) -> state` of one parameter.
    update: `(spec, grad, state, param, count) -> (direction, state)`, where
      count is that of updates done.
    specs: what a rule gets of each parameter: its `ParamSpec`, or more.
  """

  def init_all(params):
    return jax.tree.map(init, specs, params)

  def update_all(updates, state, params=None, **extra: Any):
    count = extra["count"]
    pairs = jax.tree.map(
      lambda spec, g, s, p: update(spec, g, s, p, count),
      specs,
      updates,
      state,
      params,
    )
    directions = jax.tree.map(lambda _, pair: pair[0], specs, pairs)
    return directions, jax.tree.map(lambda _, pair: pair[1], specs, pairs)

  return optax.GradientTransformationExtraArgs(init_all, update_all)


def layer_rms(spec: ParamSpec, a: Float[Array, "..."]) -> Float[Array, "..."]:
  """Root mean square of each layer's slice, shaped to be multiplied with."""
  axes = tuple(range(spec.stacked, a.ndim))
  return jnp.sqrt(jnp.mean(jnp.square(a), axes, keepdims=True))
