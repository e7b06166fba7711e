"""Held-out loss and scores, and the way of a batch to the devices."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ..data.config import DataConfig
from ..data.pipeline import heldout_batches, heldout_task_batches
from ..data.prepare import Prepared
from ..parallel.rules import from_host
from .objectives import Loss
from .state import TrainState
from .task_metrics import TaskSums, means

HostBatch = Mapping[str, Any]  # name -> numpy array


def to_device(batch: HostBatch, shardings: Mapping[str, Any]) -> dict[str, Any]:
  """This host's rows as part of the global batch."""
  return {
    name: from_host(batch[name], sharding)
    for name, sharding in shardings.items()
  }


def evaluate(
  eval_step: Callable[[TrainState, Any], Any],
  state: TrainState,
  prepared: Prepared,
  config: DataConfig,
  shardings: Mapping[str, Any],
  split: Callable[[Any], list[Any]] = lambda losses: [losses],
) -> list[dict[str, float]]:
  """Held-out loss per token and, from its sum, bits per byte.

  Of all sources together and, where there are several, of each. Of a task:
  loss per answer, the shares of right answers and of whole rows, and both at
  the task's other lengths; `eval_step` is then that of `task_metrics.py`.

  Args:
    split: from what `eval_step` gives to a list of each run's own.

  Returns:
    The numbers of each run whose state it is.
  """
  if config.task:
    return _evaluate_task(eval_step, state, config, shardings, split)
  losses = []  # of each source, a list
  for i, _ in enumerate(prepared.parts):
    batches = heldout_batches(prepared, config, part=i)
    part = [eval_step(state, to_device(b, shardings)) for b in batches]
    losses.append(jax.device_get(part))
  return [_summary(own, prepared) for own in split(losses)]


def _summary(
  losses: Sequence[Sequence[Loss]], prepared: Prepared
) -> dict[str, float]:
  """The numbers of one run, from its losses by source and batch."""
  sums = {}  # source -> (nats, tokens, bytes)
  for part, of_part in zip(prepared.parts, losses, strict=True):
    nats = sum(float(x.metrics.get("cross_entropy", x.sum)) for x in of_part)
    tokens = sum(float(x.weight) for x in of_part)
    sums[part.name] = (nats, tokens, part.heldout_bytes)

  def numbers(nats: float, tokens: float, n_bytes: int) -> dict[str, float]:
    bits = nats / math.log(2)
    return {"loss": nats / tokens, "bits_per_byte": bits / n_bytes}

  found = numbers(*(sum(column) for column in zip(*sums.values(), strict=True)))
  if len(sums) > 1:
    for name, of_one in sums.items():
      for key, value in numbers(*of_one).items():
        found[f"{name}/{key}"] = value
  return found


def task_batches(config: DataConfig) -> Mapping[int, list[HostBatch]]:
  """The held-out rows of a task at each of its lengths; kept for the next."""
  # They are the same for every seed.
  return _task_batches(dataclasses.replace(config, seed=0))


# Rows are dear to draw, and every evaluation reads them again.
@functools.lru_cache(maxsize=1)
def _task_batches(config: DataConfig) -> Mapping[int, list[HostBatch]]:
  lengths = (config.seq_len, *config.task_options.lengths)
  return {
    length: list(heldout_task_batches(config, length)) for length in lengths
  }


def _evaluate_task(
  eval_step: Callable[[TrainState, Any], TaskSums],
  state: TrainState,
  config: DataConfig,
  shardings: Mapping[str, Any],
  split: Callable[[Any], list[Any]],
) -> list[dict[str, float]]:
  found: list[dict[str, float]] = []
  held = task_batches(config)
  for length in (config.seq_len, *config.task_options.lengths):
    batches = held[length]
    sums = [eval_step(state, to_device(b, shardings)) for b in batches]
    total = jax.tree.map(lambda *parts: sum(parts), *jax.device_get(sums))
    # The first is training's own length, whatever the options list.
    prefix = f"len={length}/" if found else ""
    scores = [
      {f"{prefix}{k}": v for k, v in means(own).items()} for own in split(total)
    ]
    found = [
      old | new
      for old, new in zip(found or [{}] * len(scores), scores, strict=True)
    ]
  return found
