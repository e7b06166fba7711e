"""How fast batches come, against how fast a model can eat them.

  python benchmarks/input.py --model-tokens-per-s=12000

Reads the training batches of configs/lm/tiny.py as the training loop does,
from a warm page cache; the median of several rounds.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time

try:
  import ablax  # noqa: F401
except ModuleNotFoundError:  # from a checkout with nothing installed
  sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  )

from ablax.configs.lm import tiny
from ablax.data.config import DataConfig
from ablax.data.pipeline import train_batches
from ablax.data.prepare import prepare
from ablax.registry import Opts

GOAL = 20  # times the model's speed


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model-tokens-per-s", type=float, default=12000)
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--batches", type=int, default=1000, help="a round")
  parser.add_argument("--json", help="append the result to this file")
  args = parser.parse_args()

  values = tiny.get_config().data.to_dict()
  config = DataConfig(**{**values, "opts": Opts(values["opts"])})
  start = time.perf_counter()
  prepared = prepare(config)
  prepare_s = time.perf_counter() - start
  batches = train_batches(prepared, config)
  for _ in range(config.prefetch + 1):
    next(batches)  # the threads start, the buffer fills
  seconds = []
  for _ in range(args.rounds):
    start = time.perf_counter()
    for _ in range(args.batches):
      next(batches)
    seconds.append(time.perf_counter() - start)
  batches.close()

  rows = args.batches * config.batch_size
  rates = [rows / s for s in seconds]
  median = statistics.median(rates)
  tokens = median * config.seq_len
  ratio = tokens / args.model_tokens_per_s
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}"
    for name in ("grain", "array_record", "numpy")
  )
  print(f"date      {datetime.date.today()}")
  print(
    f"machine   {platform.machine()}, {os.cpu_count()} cores,"
    f" {platform.system()} {platform.release()}"
  )
  print(f"versions  Python {platform.python_version()}, {versions}")
  print(
    f"data      {config.source}, {config.tokenizer}, T={config.seq_len},"
    f" B={config.batch_size}, {prepared.n_train_rows} rows,"
    f" fill {prepared.fill:.4f}, prepared in {prepare_s:.1f} s"
  )
  print(
    f"rows/s    {median:,.0f} (median of {args.rounds} rounds;"
    f" {min(rates):,.0f} to {max(rates):,.0f})"
  )
  print(f"tokens/s  {tokens:,.0f}")
  print(
    f"ratio     {ratio:.0f} times a model of"
    f" {args.model_tokens_per_s:,.0f} tokens/s (goal: {GOAL})"
  )
  if args.json:
    result = {
      "benchmark": "input",
      "rows_per_s": round(median),
      "tokens_per_s": round(tokens),
      "ratio": round(ratio),
      "model_tokens_per_s": args.model_tokens_per_s,
      "rounds": args.rounds,
      "versions": versions,
      "machine": f"{platform.machine()}, {os.cpu_count()} cores",
      "date": datetime.date.today().isoformat(),
    }
    with open(args.json, "a", encoding="utf-8") as file:
      file.write(json.dumps(result) + "\n")
  return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
  sys.exit(main())
