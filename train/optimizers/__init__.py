"""OPTIMIZERS: from a gradient to a direction; the rest is common to all.

An entry is a function `(options, specs) -> optax.GradientTransformation`
whose update is a direction to walk against; `specs` has each parameter's
logical axes, of which "layers" is a batch axis. An entry whose evaluation
weights differ from its training weights has beside it a function
`eval_params(opt_state, params)`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jaxtyping import Array

from ...errors import UserError
from ...models.param import Params, path_of
from ...registry import Opts, Registry
from ..loss_scale import check_loss_scale

OPTIMIZERS = Registry(
  "optimizer",
  "opt.name",
  __name__,
  {
    "adamw": "adamw:adamw",
    "sgd": "sgd:sgd",
  },
)

Rules = tuple[tuple[str, float], ...]


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
  opts: Opts

  def __post_init__(self):
    for key in ("lr", "warmup_steps", "weight_decay", "clip_norm"):
      if getattr(self, key) < 0:
        raise UserError(f"opt.{key}={getattr(self, key)} must not be negative")
    if self.accum_steps < 1:
      raise UserError(f"opt.accum_steps={self.accum_steps} must be at least 1")
    check_loss_scale(
      self.loss_scale, self.loss_scale_growth, self.loss_scale_min
    )
    for key in ("lr_rules", "decay_rules"):
      for rule in getattr(self, key):
        try:
          pattern, factor = rule
          re.compile(pattern)
          float(factor)
        except (TypeError, ValueError, re.error) as error:
          raise UserError(
            f"opt.{key}: {rule!r} is not a (regex, factor) pair: {error}"
          ) from None


def match_rules(key: str, rules: Rules, specs: Mapping[str, Any]) -> Any:
  """The factor of each parameter: that of the first rule its path matches.

  Raises:
    UserError: a parameter without a rule.
  """

  def factor(key_path, spec):
    del spec
    path = path_of(key_path)
    for pattern, value in rules:
      if re.search(pattern, path):
        return float(value)
    raise UserError(
      f"{key} has no rule for the parameter {path}; end it with ('.*', 1.0)"
    )

  return jax.tree_util.tree_map_with_path(factor, specs)


def make_optimizer(
  config: OptConfig,
  learning_rate: Callable[[Array], Array],
  specs: Mapping[str, Any],
) -> optax.GradientTransformationExtraArgs:
  """direction, then decoupled weight decay, both times the learning rate."""
  direction = OPTIMIZERS[config.name](config.opts[config.name], specs)
  lr = match_rules("opt.lr_rules", config.lr_rules, specs)
  decay = match_rules("opt.decay_rules", config.decay_rules, specs)
  decay = jax.tree.map(lambda factor: config.weight_decay * factor, decay)

  def walk(updates, params, count):
    step = -learning_rate(count)
    return jax.tree.map(
      lambda u, p, f, d: (step * f) * (u + d * p if d else u),
      updates,
      params,
      lr,
      decay,
    )

  def init(params):
    return {"direction": direction.init(params)}

  def update(updates, state, params=None, **extra: Any):
    updates, inner = direction.update(updates, state["direction"], params)
    return walk(updates, params, extra["count"]), {"direction": inner}

  return optax.GradientTransformationExtraArgs(init, update)


def eval_params(config: OptConfig, opt_state: Any, params: Params) -> Params:
  """The weights to evaluate, sample and export with."""
  hook = getattr(OPTIMIZERS.module(config.name), "eval_params", None)
  return hook(opt_state["direction"], params) if hook else params
