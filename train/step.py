"""The update and the evaluation: two pure functions, compiled for a mesh."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..models import lm
from ..models.param import Params
from ..parallel.rules import Layout, constrain, use
from .config import Config
from .loss_scale import next_state, per_term
from .noise import estimates
from .objectives import OBJECTIVES, Batch, Drawable, Loss, Objective
from .optimizers import eval_params
from .setup import Setup
from .state import STACKED, TrainState, in_float32

Metrics = dict[str, Array]


def make_objective(config: Config) -> Objective:
  name = config.objective.name
  return OBJECTIVES[name](config.objective, config.objective.opts[name])


# The arrays of a batch, with their logical axes.
BATCH = {
  "tokens": ("batch", "seq"),
  "targets": ("batch", "seq"),
  "segment_ids": ("batch", "seq"),
  "positions": ("batch", "seq"),
  "weights": ("batch", "seq"),
  "example_ids": ("batch",),
}


def batch_shardings(layout: Layout) -> dict[str, Any]:
  """Where each array of a batch lies."""
  return {name: layout.activation(axes) for name, axes in BATCH.items()}


def microbatches(batch: Batch, n: int) -> Batch:
  """[B, ...] to [n, B/n, ...], taking every n-th example.

  Strided, so that each device keeps the examples that it holds.
  """

  def split(a):
    a = a.reshape(a.shape[0] // n, n, *a.shape[1:])
    return jnp.moveaxis(a, 1, 0)

  return jax.tree.map(split, batch)


def loss_and_grads(
  objective: Callable[..., Loss],
  apply: Callable[..., lm.Output],
  params: Params,
  batch: Batch,
  key: Array,
  accum_steps: int = 1,
  *,
  loss_scale: Array | None = None,
  noise: bool = False,
) -> tuple[Loss, Params]:
  """The batch's summed loss, and the gradient of sum / weight, in fp32.

  Microbatches add up sums and weights, and one division ends it: unequal
  token counts weigh as in one big batch.

  Args:
    loss_scale: multiplies the loss in the backward pass alone.
    noise: also sum up, as metrics, what `noise.estimates` asks for.
  """
  factor = None
  if loss_scale is not None:
    size = max(a.size for a in jax.tree.leaves(batch))
    factor = per_term(loss_scale, size // accum_steps)

  def loss_fn(params, batch):
    loss = objective(apply, params, batch, key)
    return loss.sum if factor is None else loss.sum * factor, loss

  def grad_fn(params, batch):
    grads, loss = jax.grad(loss_fn, has_aux=True)(params, batch)
    if noise:
      norm = optax.tree.norm(in_float32(grads))
      if factor is not None:
        norm /= factor
      sums = {
        "noise/squares": norm**2 / jnp.maximum(loss.weight, 1e-8),
        "noise/n": (loss.weight > 0).astype(jnp.float32),
      }
      loss = loss._replace(metrics={**loss.metrics, **sums})
    return grads, loss

  if accum_steps == 1:
    grads, loss = grad_fn(params, batch)
  else:

    def add(total, batch):
      batch = jax.tree.map(
        lambda a: constrain(a, "batch", *(None,) * (a.ndim - 1)), batch
      )
      grads, loss = grad_fn(params, batch)
      # `total` is fp32, and so is the sum.
      return jax.tree.map(jnp.add, total, (grads, loss)), None

    pieces = microbatches(batch, accum_steps)
    first = jax.tree.map(lambda a: a[0], pieces)
    zero = jax.tree.map(
      lambda a: jnp.zeros(a.shape, jnp.float32),
      jax.eval_shape(grad_fn, params, first),
    )
    (grads, loss), _ = jax.lax.scan(add, zero, pieces)
  # A batch of padding alone has weight 0, and no gradient.
  scale = 1 / jnp.maximum(loss.weight, 1e-8)
  if factor is not None:
    scale /= factor
  return loss, jax.tree.map(lambda g: g.astype(jnp.float32) * scale, grads)


def _means(loss: Loss) -> Metrics:
  weight = jnp.maximum(loss.weight, 1e-8)
  means = {name: value / weight for name, value in loss.metrics.items()}
  means = {"loss": loss.sum / weight, **_of_layers(means)}
  return {**means, "weight": loss.weight}


def _of_layers(means: Metrics) -> Metrics:
  """The metrics of layers, which are arrays, as numbers with names.

  Each has its mean over layers, and one number a layer; of a load, shares that
  add up to 1, the largest times their number: 1 where it is even.
  """
  found = {}
  for name, value in means.items():
    if not value.ndim:
      found[name] = value
      continue
    if value.ndim == 2:
      name = name.replace("load", "max_load")
      value = value.max(-1) * value.shape[-1]
    found[name] = value.mean()
    found |= {f"{name}/{i}": a for i, a in enumerate(value)}
  return found


def make_update(
  setup: Setup,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics, Params]]:
  """Returns the update as a pure function: new state, metrics, gradient."""
  config = setup.config
  objective = make_objective(config)
  apply = functools.partial(lm.apply, config.model)
  noise = config.log.noise_scale

  def update(state: TrainState, batch: Batch):
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    key, draw_key = jax.random.split(key)
    scale = state.loss_scale.get("scale")
    accum_steps = config.opt.accum_steps
    loss, raw_grads = loss_and_grads(
      objective,
      apply,
      state.params,
      batch,
      key,
      accum_steps,
      loss_scale=scale,
      noise=noise,
    )

    def sampled_grads():
      assert isinstance(objective, Drawable), "refused by Setup"
      drawn, grads = loss_and_grads(
        objective.drawn,
        apply,
        state.params,
        batch,
        draw_key,
        accum_steps,
        loss_scale=scale,
      )
      return grads, drawn.weight

    grads, norm = raw_grads, optax.tree.norm(raw_grads)
    if config.opt.clip_norm:
      clip = jnp.minimum(1.0, config.opt.clip_norm / (norm + 1e-9))
      grads = jax.tree.map(lambda g: g * clip, grads)
    updates, opt_state = setup.optimizer.update(
      grads,
      state.opt_state,
      in_float32(state.params),
      step=state.step,
      count=state.step - state.loss_scale.get("skipped", 0),
      sampled_grads=sampled_grads,
    )
    params = jax.tree.map(
      lambda p, u: (p + u).astype(p.dtype), state.params, updates
    )
    metrics = _means(loss) | {
      "grad_norm": norm,
      "lr": jnp.asarray(setup.schedule(state.step), jnp.float32),
    }
    if noise:
      mean_square, _ = metrics.pop("noise/squares"), metrics.pop("noise/n")
      n = loss.metrics["noise/n"]
      metrics |= estimates(mean_square, n, norm**2, loss.weight)
    loss_scale = state.loss_scale
    if scale is not None:
      # The gradient on drawn labels, which only an optimizer sees, may
      # overflow where this one does not.
      new = jax.tree.leaves((norm, params, opt_state))
      finite = jnp.stack([jnp.isfinite(a).all() for a in new]).all()
      params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (params, opt_state),
        (state.params, state.opt_state),
      )
      loss_scale = next_state(loss_scale, finite, config.opt.loss_scale_growth)
      metrics |= {
        "loss_scale": scale,
        "skipped": loss_scale["skipped"],
        "overflow": ~finite,
      }
    new = TrainState(state.step + 1, params, opt_state, state.rng, loss_scale)
    return new, metrics, raw_grads

  return update


def make_train_step(
  setup: Setup, *, stacked: bool = False
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Returns the jitted update; the state's buffers are donated.

  Args:
    stacked: of several runs, each with a batch of its own; see train/state.py.
  """
  layout, update = setup.layout, make_update(setup)

  def train_step(state: TrainState, batch: Batch):
    with use(layout):
      state, metrics, _ = update(state, batch)
    return state, metrics

  if stacked:
    train_step = jax.vmap(train_step, (STACKED, 0), (STACKED, 0))
  return jax.jit(
    train_step,
    in_shardings=(setup.shardings, batch_shardings(layout)),
    out_shardings=(setup.shardings, layout.replicated()),
    donate_argnums=0,
  )


def make_eval_step(
  setup: Setup, *, stacked: bool = False
) -> Callable[[TrainState, Batch], Loss]:
  """Returns the jitted loss without dropout, on the evaluation weights.

  Args:
    stacked: of several runs, on one batch.
  """
  config, layout = setup.config, setup.layout
  objective = make_objective(config)

  def eval_step(state: TrainState, batch: Batch) -> Loss:
    model = config.model_at(batch["tokens"].shape[1])
    apply = functools.partial(lm.apply, model)
    with use(layout):
      params = eval_params(config.opt, state.opt_state, state.params)
      return objective(apply, params, batch, None)

  if stacked:
    eval_step = jax.vmap(eval_step, (STACKED, None))
  return jax.jit(
    eval_step,
    in_shardings=(setup.shardings, batch_shardings(layout)),
    out_shardings=layout.replicated(),
  )
