"""Held-out loss and bits per byte, and the way of a batch to the devices."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

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
  batches: Iterable[HostBatch],
  shardings: Mapping[str, Any],
  n_bytes: int,
) -> dict[str, float]:
  """Held-out loss per token and, from its sum, bits per byte."""
  parts = [eval_step(state, to_device(b, shardings)) for b in batches]
  parts = jax.device_get(parts)
  nats = sum(float(p.metrics.get("cross_entropy", p.sum)) for p in parts)
  weight = sum(float(p.weight) for p in parts)
  return {
    "loss": nats / weight,
    "bits_per_byte": nats / math.log(2) / n_bytes,
  }
