r"""What a sweep costs beyond its runs, and what a shared compilation saves.

  python benchmarks/sweep_overhead.py [--seeds=4] [--steps=400]

Trains configs/ablations/norm_placement.py with two of its arms by `ablax
ablate`, in a folder that is thrown away: once as it is, and once without the
compilation cache. Prints the wall time, the sum of the runs, what is between
the two, and the seconds before the first update of the runs that compile and
of those that find it compiled. Appends to benchmarks/results.jsonl.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parent / "results.jsonl"
CONFIG = "configs/ablations/norm_placement.py"


def sweep(folder: pathlib.Path, seeds: int, steps: int, cached: bool) -> dict:
  """Seconds of one sweep; all of its text is prepared before."""
  environment = dict(os.environ)
  if not cached:
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
  command = [
    sys.executable,
    *("-m", "ablax.ablate", f"--config={CONFIG}", f"--workdir={folder}"),
    *(f"--seeds={seeds}", "--arms=post", "--jobs=1"),
    *(f"--config.steps={steps}", "--config.eval.every=0"),
  ]
  start = time.perf_counter()
  subprocess.run(command, env=environment, check=True, capture_output=True)
  wall = time.perf_counter() - start
  runs = [
    json.loads(file.read_text()) for file in folder.glob("runs/*/*/run.json")
  ]
  updates = [steps * 8 * 128 / run["tokens_per_s"] for run in runs]
  first = [run for run in runs if run["seed"] == 0]
  later = [run for run in runs if run["seed"] > 0]

  def around(some):
    """Seconds of a run besides its updates: compiling, evaluating, saving."""
    return statistics.median(
      run["seconds"] - steps * 8 * 128 / run["tokens_per_s"] for run in some
    )

  total = sum(run["seconds"] for run in runs)
  return {
    "wall_s": round(wall, 1),
    "runs_s": round(total, 1),
    "updates_s": round(sum(updates), 1),
    "overhead": round(wall / total - 1, 4),
    "around_first_s": round(around(first), 2),
    "around_later_s": round(around(later), 2),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--seeds", type=int, default=4)
  parser.add_argument("--steps", type=int, default=400)
  given = parser.parse_args()
  import jax

  found = {}
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    # Its text is prepared, and Python's files are in memory.
    sweep(place / "warm", 2, 2 * 20, True)
    for name, cached in (("cached", True), ("uncached", False)):
      found[name] = sweep(place / name, given.seeds, given.steps, cached)
      print(name, json.dumps(found[name]))
  line = {
    "benchmark": "sweep_overhead",
    "runs": 2 * given.seeds,
    "steps": given.steps,
    **found,
    "jax": jax.__version__,
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "date": datetime.date.today().isoformat(),
  }
  with RESULTS.open("a") as stream:
    stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
  main()
