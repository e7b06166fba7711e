"""The training state: one pytree, saved and restored as a whole."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..models import lm
from ..models.context import hash32
from ..models.param import Params, path_of
from ..parallel.rules import Layout
from .config import Config
from .optimizers import make_optimizer
from .schedules import make_schedule


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("step", "params", "opt_state", "rng"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that an update changes, and the key it draws from.

  Attributes:
    step: updates done.
    rng: key data; the key of an update is this one folded with its step.
  """

  step: Any  # int32 []
  params: Params
  opt_state: Any
  rng: Any  # uint32 [2]


@dataclasses.dataclass(frozen=True)
class Setup:
  """What a config and a mesh make, before any array: specs and places."""

  config: Config
  layout: Layout
  specs: Any
  optimizer: optax.GradientTransformationExtraArgs
  schedule: Callable[[Array], Array]
  shardings: TrainState

  @classmethod
  def of(cls, config: Config, layout: Layout) -> "Setup":
    specs = lm.param_specs(config.model)
    schedule = make_schedule(config.opt, config.steps)
    optimizer = make_optimizer(config.opt, schedule, specs)

    def place(path, spec):
      return layout.param(path_of(path), spec.shape, spec.axes)

    places = jax.tree_util.tree_map_with_path(place, specs)
    params = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), specs
    )
    opt_state = jax.eval_shape(optimizer.init, params)
    opt_places = optax.tree_utils.tree_map_params(
      optimizer,
      lambda _, sharding: sharding,
      opt_state,
      places,
      transform_non_params=lambda _: layout.replicated(),
    )
    rep = layout.replicated()
    shardings = TrainState(rep, places, opt_places, rep)
    return cls(config, layout, specs, optimizer, schedule, shardings)

  def init(self) -> TrainState:
    """The state before the first update: the same bits on any mesh."""
    key = jax.random.key(self.config.seed)
    init_key, train_key = jax.random.split(key)
    params = lm.init(self.config.model, init_key, self.shardings.params)
    opt_state = jax.jit(
      self.optimizer.init, out_shardings=self.shardings.opt_state
    )(params)
    step, rng = jax.device_put(
      (jnp.zeros((), jnp.int32), jax.random.key_data(train_key)),
      self.layout.replicated(),
    )
    return TrainState(step, params, opt_state, rng)

  def abstract(self) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    params = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), self.specs
    )
    state = TrainState(
      jax.ShapeDtypeStruct((), jnp.int32),
      params,
      jax.eval_shape(self.optimizer.init, params),
      jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    return jax.tree.map(
      lambda a, sharding: jax.ShapeDtypeStruct(
        a.shape, a.dtype, sharding=sharding
      ),
      state,
      self.shardings,
    )


@jax.jit
def _hash_leaf(a: Array) -> Array:
  words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[a.dtype.itemsize]
  if a.dtype != words:
    a = a.astype(words) if a.dtype == bool else a.view(words)
  index = jnp.zeros(a.shape, jnp.uint32)
  for axis, size in enumerate(a.shape):
    index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, a.shape, axis
    )
  # A bijection of each word: no flipped bit can vanish from the sum. Integer
  # sums do not depend on their order, so that every mesh agrees.
  words = hash32(a.astype(jnp.uint32) + hash32(index))
  return jnp.sum(words, dtype=jnp.uint32)


def fingerprints(tree: Any) -> dict[str, str]:
  """A hash of each leaf's exact bits, by path; the same on any mesh."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  hashes = jax.device_get([_hash_leaf(leaf) for _, leaf in leaves])

  def name(path):
    return "/".join(
      str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))
      for k in path
    )

  return {
    name(path): f"{int(value):08x}"
    for (path, _), value in zip(leaves, hashes, strict=True)
  }
