"""Adafactor (Shazeer and Stern 2018, arXiv:1804.04235)."""

import dataclasses

import jax.numpy as jnp
import optax

from ...models.param import ParamSpec
from ..ranges import require
from .leafwise import layer_rms, leafwise
from .matrices import as_matrix
from .width import entrywise, unknown


@dataclasses.dataclass(frozen=True)
class Options:
  """With `scale_by_param`, opt.lr is relative to a parameter's own size.

  Then 1e-2 to 3e-2 is usual; without it, AdamW's. opt.schedule stands in the
  place of the paper's min(1e-2, 1 / sqrt(t)).
  """

  decay_power: float = 0.8  # the mean of squares forgets with 1 - t^-power
  eps: float = 1e-30  # added to the squared gradient
  clip: float = 1.0  # of the update's root mean square; 0: none
  scale_by_param: bool = True  # the step is times the parameter's own size
  min_scale: float = 1e-3  # the least size of a parameter, for its step

  def __post_init__(self):
    require("adafactor", self, "in (0, 1]", "decay_power")
    require("adafactor", self, "positive", "eps", "min_scale")
    require("adafactor", self, "at least 0", "clip")


def width_factor(options: Options, spec: ParamSpec) -> float:
  if options.scale_by_param:
    rule = unknown(
      "adafactor",
      "with opt.opts.adafactor.scale_by_param its step is relative to a"
      " parameter's size, for which there is a rule only at initialisation;"
      " set that to false",
    )
    return rule(options, spec)
  return entrywise(options, spec)


def adafactor(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  """Algorithms 4 to 6, without momentum: g / sqrt(v), then clipped.

  v of a matrix is kept as the means of its rows and columns, for each layer.
  """

  def init(spec, param):
    if matrix := as_matrix(spec):
      rows = jnp.zeros((*matrix.batch, matrix.n_in))
      columns = jnp.zeros((*matrix.batch, matrix.n_out))
      return {"rows": rows, "columns": columns}
    return {"v": jnp.zeros_like(param)}

  def update(spec, grad, state, param, count):
    t = (count + 1).astype(jnp.float32)
    keep = 1 - t**-options.decay_power
    square = jnp.square(grad) + options.eps

    def mean(old, new):
      return keep * old + (1 - keep) * new

    if matrix := as_matrix(spec):
      square = matrix.fold(square)
      rows = mean(state["rows"], square.mean(-1))
      columns = mean(state["columns"], square.mean(-2))
      share = rows / rows.mean(-1, keepdims=True)
      v = matrix.unfold(share[..., :, None] * columns[..., None, :])
      state = {"rows": rows, "columns": columns}
    else:
      v = mean(state["v"], square)
      state = {"v": v}
    direction = grad * jnp.reciprocal(jnp.sqrt(v))
    if options.clip:
      rms = layer_rms(spec, direction)
      direction /= jnp.maximum(1, rms / options.clip)
    if options.scale_by_param:
      size = layer_rms(spec, param)
      direction *= jnp.maximum(size, options.min_scale)
    return direction, state

  return leafwise(init, update, specs)
