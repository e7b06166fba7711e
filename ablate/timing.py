"""Seconds of an update, measured in turn: what a budget of time goes by."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..train.config import Config, from_dict
from .sweep import plain

_ROUNDS = 9


def update_seconds(configs: Mapping[str, Config]) -> dict[str, float]:
  """Median seconds of an update of each, in a process of its own.

  All are compiled first, then take turns, so that what else the machine does
  falls on all alike.
  """
  jobs = {name: plain(config) for name, config in configs.items()}
  done = subprocess.run(
    [sys.executable, "-m", "ablax.ablate.timing"],
    input=json.dumps(jobs),
    capture_output=True,
    text=True,
  )
  if done.returncode:
    why = (done.stderr.strip().splitlines() or ["no word"])[-1]
    raise UserError(f"budget='time': an update could not be timed: {why}")
  return json.loads(done.stdout.splitlines()[-1])


def _measure(configs: Sequence[Config]) -> list[float]:
  import jax
  import jax.numpy as jnp

  from ..train.accounting import abstract_batch
  from ..train.setup import provisional_setup
  from ..train.step import make_train_step

  runs: list[list[Any]] = []
  for config in configs:
    setup = provisional_setup(config)
    shapes = abstract_batch(config.data.batch_size, config.data.seq_len)
    batch = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), shapes)
    step = make_train_step(setup)
    state, _ = step(setup.init(), batch)
    runs.append([step, jax.block_until_ready(state), batch])
  seconds: list[list[float]] = [[] for _ in runs]
  for _ in range(_ROUNDS):
    for run, times in zip(runs, seconds, strict=True):
      step, state, batch = run
      start = time.perf_counter()
      run[1] = jax.block_until_ready(step(state, batch)[0])
      times.append(time.perf_counter() - start)
  return [statistics.median(times) for times in seconds]


def main() -> None:
  jobs = json.loads(sys.stdin.read())
  found = _measure([from_dict(config) for config in jobs.values()])
  print(json.dumps(dict(zip(jobs, found, strict=True))))


if __name__ == "__main__":
  main()
