"""Made-up records: what a sweep would have left behind."""

import dataclasses

import numpy as np

from ablax.ablate.record import Facts, Record, Run

METRIC = "heldout/bits_per_byte"


def run(arm="adamw", seed=0, value=2.0, **fields):
  """A run that finished, with a curve of three points."""
  plain = {
    "arm": arm,
    "seed": seed,
    "status": "finished",
    "error": "",
    "changes": {} if arm == "adamw" else {"opt.name": arm},
    "steps": 30,
    "tokens": 3000,
    "params": 1000,
    "train_flops": 6e6,
    "memory_bytes": 16000,
    "seconds": 10.0 + seed,
    "tokens_per_s": 300.0,
    "peak_bytes": 10**9,
    "config_hash": f"{arm}-{seed}",
    "data_fingerprint": "data",
    "tokenizer": "bytes",
    "code": "0.1.0 0123456789, jax 0.10.2",
    "workdir": f"{arm}/seed-{seed}",
    "final": {METRIC: value, "loss": value + 1},
    "curves": {
      "loss": tuple((s, value + 1 + 3 / s) for s in (10, 20, 30)),
      METRIC: tuple((s, value + 1 / s) for s in (15, 30)),
    },
  }
  return Run(**plain | fields)


def facts(arms, seeds, **fields):
  plain = {
    "name": "optimizers",
    "claim": "Lion beats AdamW.\n\nAt toy scale.",
    "baseline": arms[0],
    "arms": tuple(arms),
    "axes": ("opt.name",),
    "metric": METRIC,
    "goal": "min",
    "seeds": tuple(seeds),
    "alpha": 0.05,
    "budget": "",
    "solved": {},
    "notes": (),
  }
  return Facts(**plain | fields)


def record(values=None, **fields):
  """A record from arm -> value of each seed; the first arm is the baseline."""
  values = values or {"adamw": [2.0, 2.1, 2.2], "lion": [1.9, 2.0, 2.2]}
  runs = [
    run(arm, seed, float(value))
    for arm, of in values.items()
    for seed, value in enumerate(of)
  ]
  seeds = range(max(map(len, values.values())))
  return Record(facts(list(values), seeds, **fields), tuple(runs))


def drawn(shifts, n_seeds=5, seed=0, noise=0.01):
  """arm -> values around 2 + shift; what a seed does, it does to all arms."""
  rng = np.random.default_rng(seed)
  common = 2 + 0.05 * rng.standard_normal(n_seeds)
  return {
    arm: (common + shift + noise * rng.standard_normal(n_seeds)).tolist()
    for arm, shift in shifts.items()
  }


def changed(record, arm, seed, **fields):
  """The record with other fields in one run."""
  return Record(
    record.facts,
    tuple(
      dataclasses.replace(r, **fields) if (r.arm, r.seed) == (arm, seed) else r
      for r in record.runs
    ),
  )


def each(record, **fields):
  """The record with other fields in all runs."""
  runs = tuple(dataclasses.replace(r, **fields) for r in record.runs)
  return Record(record.facts, runs)
