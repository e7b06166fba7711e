"""OPTIMIZERS: from a gradient to a direction; the rest is common to all.

An entry is a function `(options, specs) -> optax.GradientTransformation`
whose update is a direction to walk against; `specs` has each parameter's
logical axes, of which "layers" is a batch axis. An entry for which that is not
enough returns a `WholeStep`. Beside it may stand

    eval_params(options, state, params)  # where evaluation takes other weights
    SAMPLED_GRADS = True  # where its update calls `sampled_grads`
    width_factor(options, spec)  # of the rate under muP; see width.py
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ...errors import UserError
from ...models.param import Params
from ...registry import Opts, Registry
from ..averages import AVERAGES
from ..loss_scale import check_loss_scale
from ..ranges import broken
from .rules import Rules, check_rules, layer_factors, match_rules
from .width import width_factors

OPTIMIZERS = Registry(
  "optimizer",
  "opt.name",
  __name__,
  {
    "adamw": "adamw:adamw",
    "sgd": "sgd:sgd",
    "lion": "lion:lion",
    "adan": "adan:adan",
    "adafactor": "adafactor:adafactor",
    "lamb": "lamb:lamb",
    "muon": "muon:muon",
    "shampoo": "shampoo:shampoo",
    "soap": "soap:soap",
    "sophia": "sophia:sophia",
    "schedule_free": "schedule_free:schedule_free",
  },
)


@dataclasses.dataclass(frozen=True)
class OptConfig:
  """The opt namespace; units and meaning in configs/base.py."""

  name: str
  lr: float
  schedule: str
  warmup_steps: int
  weight_decay: float
  clip_norm: float
  accum_steps: int
  loss_scale: float
  loss_scale_growth: int
  loss_scale_min: float
  lr_rules: Rules
  decay_rules: Rules
  layer_decay: float
  average: str
  opts: Opts

  def __post_init__(self):
    for key in ("lr", "warmup_steps", "weight_decay", "clip_norm"):
      value = getattr(self, key)
      if wrong := broken("at least 0", value):
        raise UserError(f"opt.{key}={value} {wrong}")
    if self.accum_steps < 1:
      raise UserError(f"opt.accum_steps={self.accum_steps} must be at least 1")
    if not 0 < self.layer_decay <= 1:
      raise UserError(
        f"opt.layer_decay={self.layer_decay} must be in (0, 1]; 1.0 is off"
      )
    check_loss_scale(
      self.loss_scale, self.loss_scale_growth, self.loss_scale_min
    )
    for key in ("lr_rules", "decay_rules"):
      check_rules(f"opt.{key}", getattr(self, key))
    if self.average != "none" and _hook(self, "eval_params"):
      raise UserError(
        f"opt.average={self.average!r} with opt.name={self.name!r}, which"
        " evaluates an average of its own; use opt.average='none'"
      )


class WholeStep(NamedTuple):
  """An optimizer that takes the whole step itself: rate and decay included.

  Attributes:
    init: `params -> state`.
    update: `(grads, state, params, *, lr, rates, decay, **extra) -> (updates,
      state)`, where updates are to be added to params. lr is the learning
      rate, rates has each parameter's own, decay its weight decay, and extra
      what every entry's update gets: `count`, of updates done, and
      `sampled_grads` (see `make_optimizer`).
  """

  init: Callable[[Params], Any]
  update: Callable[..., tuple[Any, Any]]


def decoupled(direction: optax.GradientTransformation) -> WholeStep:
  """A direction and the decoupled weight decay, both times the rate."""
  direction = optax.with_extra_args_support(direction)

  def update(grads, state, params, *, lr, rates, decay, **extra: Any):
    del lr
    directions, state = direction.update(grads, state, params, **extra)
    updates = jax.tree.map(
      lambda u, p, rate, d: -rate * (u + d * p if d else u),
      directions,
      params,
      rates,
      decay,
    )
    return updates, state

  return WholeStep(direction.init, update)


def make_optimizer(
  config: OptConfig,
  learning_rate: Callable[[Array], Array],
  specs: Mapping[str, Any],
) -> optax.GradientTransformationExtraArgs:
  """The chosen optimizer with its rates, its decay and its average.

  Its update takes `count`, the updates done; `step`, where the schedule is,
  if updates were skipped; and where the entry has SAMPLED_GRADS also
  `sampled_grads`: a function without arguments that computes the gradient of
  the mean loss on labels drawn from the model, and the weight of that mean.
  """
  entry = OPTIMIZERS[config.name](config.opts[config.name], specs)
  whole = entry if isinstance(entry, WholeStep) else decoupled(entry)
  average = AVERAGES[config.average](config.opts[config.average])
  factors = jax.tree.map(
    lambda rule, layer: rule * layer,
    match_rules("opt.lr_rules", config.lr_rules, specs),
    layer_factors(config.layer_decay, specs),
  )
  decay = match_rules("opt.decay_rules", config.decay_rules, specs)
  decay = jax.tree.map(lambda factor: config.weight_decay * factor, decay)
  widths = width_factors(
    config.name,
    _hook(config, "width_factor"),
    config.opts[config.name],
    specs,
  )
  if widths is not None:
    factors = jax.tree.map(lambda factor, w: factor * w, factors, widths)
    # The product of rate and decay stays the proxy's.
    decay = jax.tree.map(lambda d, w: d / w, decay, widths)

  def init(params):
    return {"direction": whole.init(params), "average": average.init(params)}

  def update(updates, state, params=None, **extra: Any):
    grads = updates
    count = extra["count"]
    lr = learning_rate(extra.pop("step", count))
    rates = jax.tree.map(lambda factor: lr * factor, factors)
    updates, inner = whole.update(
      grads,
      state["direction"],
      params,
      lr=lr,
      rates=rates,
      decay=decay,
      **extra,
    )
    updates = jax.tree.map(
      lambda spec, g, u: -spec.step * jnp.sign(g) if spec.step else u,
      dict(specs),
      grads,
      updates,
    )
    moved = jax.tree.map(lambda p, u: p + u, params, updates)
    mean = average.update(state["average"], moved, count)
    return updates, {"direction": inner, "average": mean}

  return optax.GradientTransformationExtraArgs(init, update)


def _hook(config: OptConfig, name: str) -> Any:
  return getattr(OPTIMIZERS.module(config.name), name, None)


def wants_sampled_grads(config: OptConfig) -> bool:
  return bool(_hook(config, "SAMPLED_GRADS"))


def eval_params(config: OptConfig, opt_state: Any, params: Params) -> Params:
  """The weights to evaluate, sample and export with."""
  if hook := _hook(config, "eval_params"):
    return hook(config.opts[config.name], opt_state["direction"], params)
  average = AVERAGES[config.average](config.opts[config.average])
  return average.eval_params(opt_state["average"], params)
