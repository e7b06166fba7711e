"""OBJECTIVES: what is minimised.

An entry is a class built from `(config, options)` whose instances are called
as `objective(apply, params, batch, key) -> Loss`. The loss is a sum and its
weight: the step divides by the weight of the whole global batch, so that
accumulation, data parallelism and one big batch give one gradient.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ...models.lm import Output
from ...models.param import Params
from ...registry import Opts, Registry


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
  """The objective namespace; units and meaning in configs/base.py."""

  name: str
  z_loss: float
  label_smoothing: float
  opts: Opts

  def __post_init__(self):
    if self.z_loss < 0:
      raise UserError(f"objective.z_loss={self.z_loss} must not be negative")
    if not 0 <= self.label_smoothing < 1:
      raise UserError(
        f"objective.label_smoothing={self.label_smoothing} must be in [0, 1)"
      )


class Loss(NamedTuple):
  """Sums over a batch; `metrics` are to be divided by `weight` too."""

  sum: Float[Array, ""]
  weight: Float[Array, ""]
  metrics: Mapping[str, Float[Array, ""]]


def of_layers(
  output: Output, weights_BT: Float[Array, "B T"]
) -> tuple[Float[Array, ""] | float, dict[str, Float[Array, "L ..."]]]:
  """What layers add to the loss, and what they count, over a batch.

  Each example counts by its weight. Metrics of layers are arrays, [L, ...].
  """
  weights_B = weights_BT.sum(1)
  measures = {
    f"moe/{name}": jnp.einsum("B,LB...->L...", weights_B, value)
    for name, value in output.measures.items()
  }
  if output.penalty_B is None:
    return 0.0, measures
  return (weights_B * output.penalty_B).sum(), measures


Batch = Mapping[str, Any]
Apply = Callable[..., Output]


@runtime_checkable
class Objective(Protocol):
  """`key` is None where nothing is drawn: in evaluation."""

  def __call__(
    self, apply: Apply, params: Params, batch: Batch, key: Array | None
  ) -> Loss: ...


@runtime_checkable
class Drawable(Objective, Protocol):
  """An objective that can score the model on labels that it draws itself.

  `drawn` is called as the objective is. Its gradient is that of the plain
  loss: without dropout, smoothing and penalties, and not through the draw.
  """

  def drawn(
    self, apply: Apply, params: Params, batch: Batch, key: Array
  ) -> Loss: ...


def can_draw(entry: type) -> bool:
  """Whether an entry's instances are `Drawable`."""
  return hasattr(entry, "drawn")


OBJECTIVES = Registry(
  "objective",
  "objective.name",
  __name__,
  {
    "next_token": "next_token:NextToken",
    "multi_token": "multi_token:MultiToken",
  },
)
