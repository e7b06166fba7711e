"""Evaluation on a synthetic task: are the answers right, and in whole rows?"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from rich.console import Console

from ..data.config import DataConfig
from ..models import lm
from ..parallel.rules import use
from .objectives import Batch
from .optimizers import eval_params
from .setup import Setup
from .state import STACKED, TrainState
from .step import batch_shardings, make_objective

# Logits that are held at a time.
_LOGITS = 2**22


class TaskSums(NamedTuple):
  """Sums over a batch: nats and right answers of those asked; whole rows."""

  nats: Float[Array, ""]
  right: Float[Array, ""]
  asked: Float[Array, ""]
  rows_right: Float[Array, ""]
  rows: Float[Array, ""]


def make_task_step(
  setup: Setup, *, stacked: bool = False
) -> Callable[[TrainState, Batch], TaskSums]:
  """Returns the jitted evaluation of a batch, on the evaluation weights.

  Args:
    stacked: of several runs, on one batch.
  """
  config, layout = setup.config, setup.layout
  objective = make_objective(config)

  def task_step(state: TrainState, batch: Batch) -> TaskSums:
    outputs = []
    model = config.model_at(batch["tokens"].shape[1])
    apply = functools.partial(lm.apply, model)

    def kept(*args, **kwargs):
      outputs.append(apply(*args, **kwargs))
      return outputs[-1]

    with use(layout):
      params = eval_params(config.opt, state.opt_state, state.params)
      loss = objective(kept, params, batch, None)
      right_BT = is_right(outputs[0], batch["targets"])
    asked_BT = batch["weights"]
    wrong_B = (asked_BT * ~right_BT).sum(1)
    asked_B = asked_BT.sum(1)
    return TaskSums(
      loss.metrics.get("cross_entropy", loss.sum),
      (asked_BT * right_BT).sum(),
      asked_B.sum(),
      ((asked_B > 0) & (wrong_B == 0)).astype(jnp.float32).sum(),
      (asked_B > 0).astype(jnp.float32).sum(),
    )

  if stacked:
    task_step = jax.vmap(task_step, (STACKED, None))
  return jax.jit(
    task_step,
    in_shardings=(setup.shardings, batch_shardings(layout)),
    out_shardings=layout.replicated(),
  )


def is_right(
  output: lm.Output, targets_BT: Int[Array, "B T"]
) -> Bool[Array, "B T"]:
  """Whether the likeliest symbol is the target, without all logits at once."""
  B = targets_BT.shape[0]

  def at_one(slot: tuple[Array, Array]) -> Array:
    hidden_BD, targets_B = slot
    here = dataclasses.replace(output, hidden_BTD=hidden_BD[:, None])
    return here.logits()[:, 0].argmax(-1) == targets_B

  n = max(1, _LOGITS // (B * output.config.vocab_size))
  hidden_TBD = jnp.moveaxis(output.hidden_BTD, 1, 0)
  return jax.lax.map(at_one, (hidden_TBD, targets_BT.T), batch_size=n).T


def means(sums: TaskSums) -> dict[str, float]:
  """loss in nats per answer, share of right answers, and of whole rows."""
  nats, right, asked, rows_right, rows = map(float, sums)
  return {
    "loss": nats / asked,
    "accuracy": right / asked,
    "exact": rows_right / rows,
  }


def show(console: Console, data: DataConfig, heldout: Mapping[str, float]):
  """Prints the last evaluation, a line for each length."""
  options = data.task_options
  console.print(f"held-out rows of {data.task} ({options.heldout_rows:,} each)")
  lengths = {data.seq_len: ""} | {n: f"len={n}/" for n in options.lengths}
  for length, prefix in lengths.items():
    console.print(
      f"  length {length:<6} accuracy {heldout[f'{prefix}accuracy']:.3f}"
      f"  whole rows {heldout[f'{prefix}exact']:.3f}"
      f"  loss {heldout[f'{prefix}loss']:.3f} nats per answer"
    )
