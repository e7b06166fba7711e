"""What a loop compiles: of one run, or of several seeds in one program.

Several runs of one shape are one state with an axis more (see `STACKED`), and
`jax.vmap` of the same pure functions. Each run keeps its own weights, data
order and random keys. Its numbers are those of the run alone to rounding: the
matmuls of all runs are one batched product, which sums in another order.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from ..errors import UserError
from .detail import make_detail_step
from .setup import Setup
from .state import STACKED, TrainState
from .step import batch_shardings, make_eval_step, make_train_step
from .task_metrics import make_task_step


@dataclasses.dataclass(frozen=True)
class Program:
  """Compiled functions, and the way from each run's things to theirs.

  Attributes:
    setup: of any of the runs; they differ in their seeds alone.
    stacked: whether the arrays have an axis of runs.
    abstract: shapes, dtypes and shardings of the state.
    shardings: of a batch.
    train_step, eval_step, detail_step: see their makers.
    join: from the host's batches, one of each run, to the program's.
    split: from what came of the program to a list of each run's own.
    first: from the states of the runs to the program's.
  """

  setup: Setup
  stacked: bool
  abstract: TrainState
  shardings: dict[str, Any]
  train_step: Callable[..., Any]
  eval_step: Callable[..., Any]
  detail_step: Callable[..., Any]
  join: Callable[[Sequence[Any]], Any]
  split: Callable[[Any], list[Any]]
  first: Callable[[Iterable[TrainState]], TrainState]

  @classmethod
  def of_one(cls, setup: Setup) -> "Program":
    return cls(
      setup,
      False,
      setup.abstract(),
      batch_shardings(setup.layout),
      make_train_step(setup),
      _make_evaluation(setup),
      make_detail_step(setup),
      join=_only,
      split=lambda tree: [tree],
      first=_only,
    )

  @classmethod
  def of_several(cls, setup: Setup, n: int) -> "Program":
    """Of `n` runs on one device.

    Raises:
      UserError: the mesh has more.
    """
    if (devices := setup.layout.mesh.size) > 1:
      raise UserError(
        f"several seeds in one program take one device, and the mesh has"
        f" {devices}; train them one after another, or give each process one"
        " device (CUDA_VISIBLE_DEVICES, or TPU_VISIBLE_DEVICES) and set"
        " mesh.data=1"
      )

    def split(tree: Any) -> list[Any]:
      # What has no axis, such as the step, is of all.
      return [
        jax.tree.map(lambda a, i=i: a[i] if a.ndim else a, tree)
        for i in range(n)
      ]

    def first(states: Iterable[TrainState]) -> TrainState:
      # On the host, so that the device never holds them twice.
      held = [jax.device_get(state) for state in states]
      joined = dataclasses.replace(stack(held), step=held[0].step)
      return jax.device_put(joined, setup.layout.replicated())

    return cls(
      setup,
      True,
      stacked_abstract(setup, n),
      batch_shardings(setup.layout),
      make_train_step(setup, stacked=True),
      _make_evaluation(setup, stacked=True),
      make_detail_step(setup, stacked=True),
      join=stack,
      split=split,
      first=first,
    )


def _make_evaluation(setup: Setup, *, stacked: bool = False) -> Any:
  make = make_task_step if setup.config.data.task else make_eval_step
  return make(setup, stacked=stacked)


def _only(things: Iterable[Any]) -> Any:
  (thing,) = things
  return thing


def stack(trees: Sequence[Any]) -> Any:
  """Trees of the host's arrays as one, each leaf with an axis more."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def stacked_abstract(setup: Setup, n: int) -> TrainState:
  """Shapes and dtypes of the state of `n` runs, on one device."""

  def stacked(axis: Any, of_one: Any) -> Any:
    return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(
        a.shape if axis is None else (n, *a.shape),
        a.dtype,
        sharding=setup.layout.replicated(),
      ),
      of_one,
    )

  one = setup.abstract()
  names = [field.name for field in dataclasses.fields(TrainState)]
  return TrainState(
    **{k: stacked(getattr(STACKED, k), getattr(one, k)) for k in names}
  )
