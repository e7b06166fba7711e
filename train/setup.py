"""What a config and a mesh make, before any array: specs, places, optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..errors import UserError
from ..models import lm
from ..models.param import Params, path_of
from ..parallel.mesh import make_mesh
from ..parallel.rules import Layout
from .config import Config
from .loss_scale import initial_state
from .objectives import OBJECTIVES, can_draw
from .optimizers import make_optimizer, wants_sampled_grads
from .placement import place_opt_state
from .schedules import make_schedule
from .state import TrainState, in_float32


@dataclasses.dataclass(frozen=True)
class Setup:
  """Specs, shardings, optimizer and schedule of one experiment."""

  config: Config
  layout: Layout
  specs: Any
  optimizer: optax.GradientTransformationExtraArgs
  schedule: Callable[[Array], Array]
  shardings: TrainState

  @classmethod
  def of(cls, config: Config, layout: Layout) -> "Setup":
    specs = lm.param_specs(config.model)
    name = config.objective.name
    if wants_sampled_grads(config.opt) and not can_draw(OBJECTIVES[name]):
      raise UserError(
        f"opt.name={config.opt.name!r} needs labels drawn from the model, which"
        f" objective.name={name!r} does not say how to draw; use another"
        " optimizer"
      )
    schedule = make_schedule(config.opt, config.steps)
    optimizer = make_optimizer(config.opt, schedule, specs)

    def place(path, spec):
      return layout.param(path_of(path), spec.shape, spec.axes)

    places = jax.tree_util.tree_map_with_path(place, specs)
    opt_state = jax.eval_shape(optimizer.init, _structs(specs, jnp.float32))
    opt_places = place_opt_state(opt_state, specs, layout)
    rep = layout.replicated()
    scale_places = dict.fromkeys(first_loss_scale(config), rep)
    shardings = TrainState(rep, places, opt_places, rep, scale_places)
    return cls(config, layout, specs, optimizer, schedule, shardings)

  def init(self) -> TrainState:
    """The state before the first update: the same bits on any mesh."""
    key = jax.random.key(self.config.seed)
    init_key, train_key = jax.random.split(key)
    params = lm.init(self.config.model, init_key, self.shardings.params)
    step, rng, loss_scale = jax.device_put(
      (
        jnp.zeros((), jnp.int32),
        jax.random.key_data(train_key),
        first_loss_scale(self.config),
      ),
      self.layout.replicated(),
    )
    opt_state = self.init_opt_state(params)
    return TrainState(step, params, opt_state, rng, loss_scale)

  def init_opt_state(self, params: Params) -> Any:
    """The optimizer's state before the first update: fp32 always."""
    init = jax.jit(
      lambda params: self.optimizer.init(in_float32(params)),
      out_shardings=self.shardings.opt_state,
    )
    return init(params)

  def abstract(self) -> TrainState:
    """Shapes, dtypes and shardings of the state."""
    state = TrainState(
      jax.ShapeDtypeStruct((), jnp.int32),
      _structs(self.specs),
      jax.eval_shape(self.optimizer.init, _structs(self.specs, jnp.float32)),
      jax.ShapeDtypeStruct((2,), jnp.uint32),
      jax.eval_shape(lambda: first_loss_scale(self.config)),
    )
    return jax.tree.map(
      lambda a, sharding: jax.ShapeDtypeStruct(
        a.shape, a.dtype, sharding=sharding
      ),
      state,
      self.shardings,
    )


def first_loss_scale(config: Config) -> dict[str, Any]:
  """The loss scale before the first update; empty but for float16."""
  return initial_state(config.model.compute_dtype, config.opt.loss_scale)


def _structs(specs: Any, dtype: Any = None) -> Any:
  return jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, dtype or s.dtype), specs
  )


def round_up(n: int, to: int = 64) -> int:
  return -(-n // to) * to


def fit_vocab(config: Config, vocab_size: int) -> Config:
  """The config with a vocabulary that holds the tokenizer's ids."""
  if not config.model.vocab_size:
    return config.with_vocab(round_up(vocab_size))
  if config.model.vocab_size < vocab_size:
    raise UserError(
      f"model.vocab_size={config.model.vocab_size} is less than the"
      f" tokenizer's {vocab_size}; raise it, or 0 for the tokenizer's"
    )
  return config


def make_setup(config: Config, devices=None) -> Setup:
  """Mesh, layout and specs of a config whose vocabulary is known."""
  mesh = make_mesh(config.mesh, devices)
  layout = Layout.of(mesh, config.mesh.rules)
  rows = config.data.batch_size // config.opt.accum_steps
  if rows % layout.shards("batch"):
    raise UserError(
      f"data.batch_size={config.data.batch_size} in"
      f" opt.accum_steps={config.opt.accum_steps} microbatches gives {rows}"
      f" rows, not a multiple of the {layout.shards('batch')} devices along"
      " the batch; raise data.batch_size"
    )
  return Setup.of(config, layout)


def provisional_setup(config: Config, devices=None) -> Setup:
  """The setup before the tokenizer is trained: its size as the config has it.

  What can't work is refused here, before any data is read.
  """
  # Here, so that a compiled step can be had without what reads text.
  from ..data.prepare import fixed_tokenizer

  tokenizer = fixed_tokenizer(config.data)
  size = tokenizer.vocab_size if tokenizer else config.data.vocab_size
  return make_setup(fit_vocab(config, size), devices)
