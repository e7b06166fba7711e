"""A look inside one update: norms of each layer's tensors, its activations.

It is a program of its own, which repeats the update and keeps none of it:
training compiles and computes the same with and without it. A detailed update
costs about two more.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..models import lm
from ..models.config import ModelConfig
from ..models.param import Params, path_of
from ..models.watch import STATISTICS
from ..parallel.rules import use
from .objectives import Batch
from .setup import Setup
from .state import STACKED, TrainState, in_float32
from .step import batch_shardings, make_objective, make_update, microbatches

# statistic -> tensor -> value; of stacked tensors one for each layer.
Detail = Mapping[str, Mapping[str, Any]]


def make_detail_step(
  setup: Setup, *, stacked: bool = False
) -> Callable[[TrainState, Batch], Detail]:
  """Returns the jitted look at the update that a state and batch would give.

  grad_norm is taken before clipping, update_ratio is |change| / |weight|, and
  the activations are those of the first microbatch.

  Args:
    stacked: of several runs, each with a batch of its own.
  """
  config, layout = setup.config, setup.layout
  update, objective = make_update(setup), make_objective(config)

  def norms(tree: Params) -> dict[str, Array]:
    squares = jax.tree.map(
      lambda spec, a: jnp.sum(
        jnp.square(a), axis=tuple(range(spec.stacked, a.ndim))
      ),
      setup.specs,
      in_float32(tree),
    )
    return {path: jnp.sqrt(a) for path, a in _by_path(squares)}

  def activations(state: TrainState, batch: Batch) -> dict[str, dict]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    pieces = microbatches(batch, config.opt.accum_steps)
    seen = []

    def apply(params, *args, **kwargs):
      output, statistics = lm.watched(config.model, params, *args, **kwargs)
      seen.append(statistics)
      return output

    first = jax.tree.map(lambda a: a[0], pieces)
    objective(apply, state.params, first, key)
    found: dict[str, dict] = {name: {} for name in STATISTICS}
    for path, value in _by_path(seen[0]):
      where, _, name = path.rpartition("/")
      if name in found:
        found[name][where] = value
    return found

  def detail(state: TrainState, batch: Batch) -> Detail:
    with use(layout):
      new, _, grads = update(state, batch)
      change = jax.tree.map(
        jnp.subtract, in_float32(new.params), in_float32(state.params)
      )
      weight = norms(state.params)
      ratio = {k: a / weight[k] for k, a in norms(change).items()}
      return {
        "grad_norm": norms(grads),
        "weight_norm": weight,
        "update_ratio": ratio,
        **activations(state, batch),
      }

  if stacked:
    detail = jax.vmap(detail, (STACKED, 0))
  return jax.jit(
    detail,
    in_shardings=(setup.shardings, batch_shardings(layout)),
    out_shardings=layout.replicated(),
  )


def _by_path(tree: Any) -> Iterator[tuple[str, Array]]:
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    yield path_of(path), leaf


def by_layer(config: ModelConfig, detail: Detail) -> dict[str, dict]:
  """The same with a name for each layer: layers/3/mixer/q/kernel -> number."""
  return {
    statistic: {
      name: number
      for path, value in jax.device_get(dict(values)).items()
      for name, number in _layers(config, path, value)
    }
    for statistic, values in detail.items()
  }


def _layers(
  config: ModelConfig, path: str, value: Any
) -> Iterator[tuple[str, float]]:
  if not value.ndim:
    yield path, float(value)
    return
  group, place, rest = path.split("/", 2)
  where = config.depths(group, int(place))
  for depth, number in zip(where, value, strict=True):
    yield f"layers/{depth}/{rest}", float(number)
