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

  Of all sources together and, where there are several, of each; and the same
  of rows of `data.eval_lengths`, which hold the same text. Of a task: loss per
  answer, the shares of right answers and of whole rows, and both at the task's
  other lengths; `eval_step` is then that of `task_metrics.py`.

  Args:
    split: from what `eval_step` gives to a list of each run's own.

  Returns:
    The numbers of each run whose state it is.
  """
  if config.task:
    return _evaluate_task(eval_step, state, config, shardings, split)
  losses: dict[int, list[Any]] = {}  # length -> of each source, a list
  for length in (config.seq_len, *config.lengths):
    sized = _of_equal_tokens(config, length, shardings)
    for i, _ in enumerate(prepared.parts):
      batches = heldout_batches(prepared, sized, part=i, length=length)
      part = [eval_step(state, to_device(b, shardings)) for b in batches]
      losses.setdefault(length, []).append(jax.device_get(part))
  return [
    _at_lengths(
      {n: _summary(of_one, prepared) for n, of_one in own.items()}, config
    )
    for own in split(losses)
  ]


def _at_lengths(
  found: Mapping[int, Mapping[str, float]], config: DataConfig
) -> dict[str, float]:
  """Numbers of training's own length and, with their length, of each."""
  numbers = dict(found[config.seq_len])
  if len(found) > 1:
    for length, of_length in found.items():
      numbers |= {f"len={length}/{k}": v for k, v in of_length.items()}
  return numbers


def _of_equal_tokens(
  config: DataConfig, length: int, shardings: Mapping[str, Any]
) -> DataConfig:
  """The config whose batch of longer rows holds no more than training's."""
  if length == config.seq_len:
    return config
  B, T = config.batch_size, config.seq_len
  per_shard, _ = shardings["tokens"].shard_shape((B, T))
  shards = B // per_shard
  rows = max(1, B * T // length // shards) * shards
  return dataclasses.replace(config, batch_size=rows)


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
  sums = {}  # length -> of all its rows
  for length, batches in task_batches(config).items():
    parts = [eval_step(state, to_device(b, shardings)) for b in batches]
    sums[length] = jax.tree.map(lambda *x: sum(x), *jax.device_get(parts))
  return [
    _at_lengths({n: means(of_one) for n, of_one in own.items()}, config)
    for own in split(sums)
  ]
