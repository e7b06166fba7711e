r"""What a sweep costs beyond its runs, and what a shared compilation saves.

  python benchmarks/sweep_overhead.py [--seeds=3] [--steps=0]

Trains configs/ablations/norm_placement.py by `ablax ablate` in a folder that
is thrown away, one run after another: the wall time, the sum of the runs, and
what is between the two. Then two of its arms, briefly, with and without the
compilation cache: the seconds besides the updates, of the runs that compile
and of those that find it compiled. Appends to benchmarks/results.jsonl.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from results import append

RESULTS = pathlib.Path(__file__).parent / "results.jsonl"
CONFIG = "configs/ablations/norm_placement.py"


def sweep(
  folder: pathlib.Path, seeds: int, *more: str, cached: bool = True
) -> dict:
  """Seconds of one sweep; all of its text is prepared before."""
  environment = dict(os.environ)
  if not cached:
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  command = [
    sys.executable,
    *("-m", "ablax.ablate", f"--config={CONFIG}", f"--workdir={folder}"),
    *(f"--seeds={seeds}", "--jobs=1", *more),
  ]
  start = time.perf_counter()
  subprocess.run(command, env=environment, check=True, capture_output=True)
  wall = time.perf_counter() - start
  runs = [
    json.loads(file.read_text()) for file in folder.glob("runs/*/*/run.json")
  ]

  def around(some):
    """Seconds of a run besides its updates: compiling, evaluating, saving."""
    return statistics.median(
      run["seconds"] - run["tokens"] / run["tokens_per_s"] for run in some
    )

  total = sum(run["seconds"] for run in runs)
  return {
    "runs": len(runs),
    "wall_s": round(wall, 1),
    "runs_s": round(total, 1),
    "overhead": round(wall / total - 1, 4),
    "around_first_s": round(around(r for r in runs if r["seed"] == 0), 2),
    "around_later_s": round(around(r for r in runs if r["seed"] > 0), 2),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=0, help="0: the config's")
  given = parser.parse_args()
  import jax

  steps = [f"--config.steps={given.steps}"] if given.steps else []
  short = ("--arms=post", "--config.steps=100", "--config.eval.every=0")
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    # Its text is prepared, and Python's files are in memory.
    sweep(place / "warm", 2, *short)
    found["whole"] = sweep(place / "whole", given.seeds, *steps)
    print("whole", json.dumps(found["whole"]), flush=True)
    for name, cached in (("cached", True), ("uncached", False)):
      found[name] = sweep(place / name, 3, *short, cached=cached)
      print(name, json.dumps(found[name]), flush=True)
  line = {
    **found,
    "jax": jax.__version__,
  }
  append(RESULTS, "sweep_overhead", line)


if __name__ == "__main__":
  main()
