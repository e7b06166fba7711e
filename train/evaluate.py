"""Held-out loss and bits per byte, and the way of a batch to the devices."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ..data.config import DataConfig
from ..data.pipeline import heldout_batches
from ..data.prepare import Prepared
from ..parallel.rules import from_host
from .objectives import Loss
from .state import TrainState

HostBatch = Mapping[str, Any]  # name -> numpy array


def to_device(batch: HostBatch, shardings: Mapping[str, Any]) -> dict[str, Any]:
  """This host's rows as part of the global batch."""
  return {
    name: from_host(batch[name], sharding)
    for name, sharding in shardings.items()
  }


def evaluate(
  eval_step: Callable[[TrainState, Any], Loss],
  state: TrainState,
  prepared: Prepared,
  config: DataConfig,
  shardings: Mapping[str, Any],
) -> dict[str, float]:
  """Held-out loss per token and, from its sum, bits per byte.

  Of all sources together and, where there are several, of each.
  """
  sums = {}  # source -> (nats, tokens, bytes)
  for i, part in enumerate(prepared.parts):
    batches = heldout_batches(prepared, config, part=i)
    losses = [eval_step(state, to_device(b, shardings)) for b in batches]
    losses = jax.device_get(losses)
    nats = sum(float(x.metrics.get("cross_entropy", x.sum)) for x in losses)
    tokens = sum(float(x.weight) for x in losses)
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
