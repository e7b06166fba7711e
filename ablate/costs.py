"""What an arm costs, counted on this machine for one device of any other."""

import dataclasses
import functools

import jax

from ..train.accounting import (
  Accounts,
  accounts,
  count_params,
  forward_flops,
  memory_bytes,
)
from ..train.config import Config
from ..train.setup import Setup, provisional_setup


def one_device(config: Config) -> Setup:
  """The setup on a single device, whatever mesh the config asks for."""
  alone = dataclasses.replace(config, mesh=config.mesh.for_devices(1))
  return provisional_setup(alone, jax.local_devices()[:1])


def slots(config: Config) -> int:
  """Slots for tokens in the rows of the whole run."""
  return config.steps * config.data.batch_size * config.data.seq_len


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one run.

  Attributes:
    tokens: slots of all its rows.
    flops: of all updates, by the model's own matmuls.
    executed_flops: what is computed, recomputation included.
    memory: bytes of weights, gradients, optimizer state and activations.
  """

  params: int
  tokens: int
  flops: float
  executed_flops: float
  memory: int


def cost(config: Config, counted: Accounts | None = None) -> Cost:
  """Counts without making an array.

  Args:
    counted: of a run of the config, which need not be counted again.
  """
  a, n = counted or _accounts(_per_update(config)), slots(config)
  return Cost(
    params=a.params,
    tokens=n,
    flops=a.train_flops * n,
    executed_flops=a.executed_flops * n,
    memory=a.memory_bytes,
  )


def memory(config: Config) -> int:
  """`Cost.memory` alone."""
  return _memory(_per_update(config))


def measure(config: Config, budget: str) -> float:
  """One number of `Cost`, by the shortest way."""
  same = _per_update(config)
  if budget == "params":
    return float(_params(same))
  if budget == "flops":
    return _train_flops(same) * slots(config)
  if budget == "tokens":
    return float(slots(config))
  assert budget == "memory", budget
  return float(_memory(same))


def _per_update(config: Config) -> Config:
  """Without what does not change the cost of an update, as a cache's key."""
  opt = dataclasses.replace(config.opt, warmup_steps=0)
  data = dataclasses.replace(config.data, seed=0)
  return dataclasses.replace(config, steps=10**9, seed=0, opt=opt, data=data)


@functools.lru_cache
def _params(config: Config) -> int:
  return count_params(one_device(config))


@functools.lru_cache
def _train_flops(config: Config) -> float:
  return 3 * forward_flops(one_device(config))


@functools.lru_cache
def _memory(config: Config) -> int:
  return memory_bytes(one_device(config))


@functools.lru_cache
def _accounts(config: Config) -> Accounts:
  return accounts(one_device(config))
