r"""k seeds in one program beside the same seeds one after another.

  python benchmarks/vmapped_seeds.py [--sizes=tiny,small] [--ks=1,2,4,8]
    [--dtype=float32] [--rounds=8] [--steps=4] [--json=FILE]

The compiled updates alone, AdamW, on batches that are on the device already. A
round takes a few updates of all k seeds in one program, and as many of each
seed, one after another. Prints the time of an update of all k seeds (medians),
the ratio with its spread over the rounds, and how far the losses are apart
after the first CHECKED updates from the same weights on the same batches.

It needs jax, flax, optax, jaxtyping and ml_collections, and no data.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import time

from results import append

sys.path.append(str(pathlib.Path(__file__).parents[1]))

# size -> model, rows and tokens a row; tiny is configs/lm/tiny.py.
SIZES = {
  "micro": (
    {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2},
    {"ff_dim": 176, "vocab_size": 320},
    (8, 64),
  ),
  "tiny": (
    {"d_model": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2},
    {"ff_dim": 352, "vocab_size": 4096},
    (4, 256),
  ),
  "small": (
    {"d_model": 256, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2},
    {"ff_dim": 688, "vocab_size": 4096},
    (8, 256),
  ),
  "mid": (
    {"d_model": 512, "n_layers": 8, "n_heads": 8, "n_kv_heads": 2},
    {"ff_dim": 1376, "vocab_size": 8192},
    (8, 256),
  ),
}
CHECKED = 20


def setup_of(size, dtype):
  import jax

  from ablax.train.config import load
  from ablax.train.setup import make_setup

  shape, more, (rows, length) = SIZES[size]
  model = {**shape, **more, "compute_dtype": dtype}
  values = {f"model.{key}": value for key, value in model.items()}
  values |= {"data.batch_size": rows, "data.seq_len": length}
  values |= {"opt.warmup_steps": 10}
  config = load("configs/lm/tiny.py", values)
  return make_setup(config, jax.devices()[:1])


def batch(setup, seed):
  """Two documents a row, of tokens that are drawn from the seed."""
  import numpy as np

  config = setup.config
  B, T = config.data.batch_size, config.data.seq_len
  rng = np.random.default_rng(seed)
  drawn = rng.integers(0, config.model.vocab_size, (B, T + 1), dtype=np.int32)
  lengths = (T // 3, T - T // 3)
  return {
    "tokens": drawn[:, :-1],
    "targets": drawn[:, 1:],
    "segment_ids": np.tile(np.repeat([1, 2], lengths), (B, 1)).astype("i4"),
    "positions": np.tile(
      np.concatenate([np.arange(n) for n in lengths]), (B, 1)
    ).astype("i4"),
    "weights": np.ones((B, T), np.float32),
    "example_ids": np.arange(B, dtype=np.int32),
  }


class Side:
  """A compiled update with its states: `steps` returns when all are done."""

  def __init__(self, program, setups, batches):
    import jax

    self._step = program.train_step
    self._batch = jax.device_put(batches)
    # Each state is one of a program's, be it of one run or of several.
    self._states = [program.first(s.init() for s in part) for part in setups]
    self.seconds = []  # an update of all seeds, in each round

  def steps(self, n):
    """Takes n updates of each state; returns the losses of every update."""
    import jax

    found = []
    for i, state in enumerate(self._states):
      for _ in range(n):
        state, metrics = self._step(state, self._batch[i])
        found.append(metrics["loss"])
      self._states[i] = jax.block_until_ready(state)
    return found

  def round(self, n):
    start = time.perf_counter()
    self.steps(n)
    self.seconds.append((time.perf_counter() - start) / n)


def measure(size, k, dtype, rounds, steps):
  """Both ways of k seeds in turn; returns what is printed and kept."""
  import numpy as np

  from ablax.train.program import Program

  setup = setup_of(size, dtype)
  setups = [
    dataclasses.replace(
      setup, config=dataclasses.replace(setup.config, seed=seed)
    )
    for seed in range(k)
  ]
  batches = [batch(setup, seed) for seed in range(k)]
  one, several = Program.of_one(setup), Program.of_several(setup, k)
  alone = Side(one, [[s] for s in setups], batches)
  joined = Side(several, [setups], [several.join(batches)])
  ours = np.stack(joined.steps(CHECKED)).T  # [k, CHECKED], which compiles too
  theirs = np.stack(alone.steps(CHECKED)).reshape(k, CHECKED)
  apart = np.abs(ours - theirs) / theirs
  for _ in range(rounds):
    joined.round(steps)
    alone.round(steps)
  ratios = sorted(
    a / b for a, b in zip(alone.seconds, joined.seconds, strict=True)
  )
  median = statistics.median
  return {
    "size": size,
    "k": k,
    "together_ms": round(1e3 * median(joined.seconds), 2),
    "one_after_another_ms": round(1e3 * median(alone.seconds), 2),
    "speed_up": round(median(ratios), 3),
    "lowest": round(ratios[0], 3),
    "highest": round(ratios[-1], 3),
    "losses_apart": float(f"{apart.max():.1e}"),
  }


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--sizes", default="tiny,small", help=", ".join(SIZES))
  parser.add_argument("--ks", default="1,2,4,8")
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--rounds", type=int, default=8)
  parser.add_argument("--steps", type=int, default=4, help="per round")
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  import jax

  device = jax.devices()[0].device_kind
  print(f"{given.dtype} on {device}, jax {jax.__version__}; one update, ms\n")
  head = "together", "one by one", "speed-up", "losses apart"
  print(f"{'':<10}{head[0]:>10}{head[1]:>12}{head[2]:>20}{head[3]:>14}")
  results = []
  for size in given.sizes.split(","):
    for k in map(int, given.ks.split(",")):
      found = measure(size, k, given.dtype, given.rounds, given.steps)
      spread = f"({found['lowest']:.2f}-{found['highest']:.2f})"
      ratio = f"{found['speed_up']:.2f} {spread}"
      print(
        f"{f'{size} x {k}':<10}{found['together_ms']:>10.1f}"
        f"{found['one_after_another_ms']:>12.1f}{ratio:>20}"
        f"{found['losses_apart']:>14.1e}",
        flush=True,
      )
      results.append(found)
  if given.json:
    result = {
      "dtype": given.dtype,
      "rounds": given.rounds,
      "steps": given.steps,
      "device": device,
      "jax": jax.__version__,
      "results": results,
    }
    append(given.json, "vmapped_seeds", result)


if __name__ == "__main__":
  main()
