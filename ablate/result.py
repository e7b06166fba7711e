"""A run's row of the record, from its folder alone: run.json."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from ..train.accounting import Accounts
from ..train.config import from_dict
from ..train.logs import read_metrics
from ..train.story import story
from ..train.workdir import read_run
from .code import code_version
from .costs import cost
from .record import Run

FILE = "run.json"
CODE = "code.txt"  # what trained a run, a line for each code


def codes(workdir: pathlib.Path) -> list[str]:
  """The codes that trained a run, in turn; none where it is not known."""
  file = workdir / CODE
  return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def make_result(
  workdir: pathlib.Path,
  *,
  arm: str,
  seed: int,
  place: str,
  changes: Mapping[str, Any],
  error: str = "",
  seconds: float = 0.0,
  peak_bytes: int = 0,
  together: int = 1,
  counted: Accounts | None = None,
) -> Run:
  """Reads what a run that ended has left.

  Args:
    seconds: its share of the last part; that of a run with restarts is read
      instead.
    together: runs in its program, among which the time is shared out.
    place: the workdir as the record has it.
    error: of a run that failed.
    counted: sizes of its config, where they are known.
  """
  told, lines = story(workdir), read_metrics(workdir)
  if told.get("restarts"):
    seconds = float(told["seconds"]) / together
  run = read_run(workdir)
  config = from_dict(run["config"]).with_vocab(run["vocab_size"])
  costs = cost(config, counted)
  curves: dict[str, list[tuple[int, float]]] = {}
  for line in lines:
    for name, value in line.items():
      if name == "loss" or name.startswith(("heldout/", "moe/")):
        curves.setdefault(name, []).append((line["step"], _number(value)))
  status = told["status"]
  if error and status != "diverged":
    status = "failed"
  done = max((line["step"] for line in lines), default=0)
  return Run(
    arm=arm,
    seed=seed,
    status=status,
    error=error,
    changes=dict(sorted(changes.items())),  # as the record gives them back
    steps=done,
    tokens=int(told.get("tokens") or 0),
    params=costs.params,
    train_flops=costs.flops / config.steps * done,
    memory_bytes=costs.memory,
    seconds=seconds,
    tokens_per_s=float(told.get("tokens_per_s") or 0),
    peak_bytes=peak_bytes,
    config_hash=run["hash"],
    data_fingerprint=run.get("data_fingerprint", ""),
    tokenizer=run["tokenizer"],
    code=", then ".join(codes(workdir) or [code_version()]),
    workdir=place,
    final={name: points[-1][1] for name, points in curves.items()},
    curves=curves,
  )


def failed(
  *, arm: str, seed: int, place: str, changes: Mapping[str, Any], error: str
) -> Run:
  """The row of a run that left nothing to read."""
  return Run(
    arm=arm,
    seed=seed,
    status="failed",
    error=error,
    changes=dict(sorted(changes.items())),  # as the record gives them back
    steps=0,
    tokens=0,
    params=0,
    train_flops=0.0,
    memory_bytes=0,
    seconds=0.0,
    tokens_per_s=0.0,
    peak_bytes=0,
    config_hash="",
    data_fingerprint="",
    tokenizer="",
    code=code_version(),
    workdir=place,
    final={},
    curves={},
  )


def write_result(workdir: pathlib.Path, run: Run) -> None:
  """Whole, or not at all; what is not finite is null, as in the logs."""
  values = dataclasses.asdict(run)
  values["final"] = {k: _finite(v) for k, v in run.final.items()}
  values["curves"] = {
    name: [(step, _finite(v)) for step, v in points]
    for name, points in run.curves.items()
  }
  text = json.dumps(values, allow_nan=False)
  workdir.mkdir(parents=True, exist_ok=True)
  partial = workdir / f"{FILE}.tmp"
  partial.write_text(text + "\n", encoding="utf-8")
  partial.replace(workdir / FILE)


def read_result(file: Any) -> Run | None:
  """Of a path with `read_text`; None where it is missing, or cut off."""
  try:
    values = json.loads(file.read_text(encoding="utf-8"))
    values["final"] = {k: _number(v) for k, v in values["final"].items()}
    values["curves"] = {
      name: tuple((step, _number(v)) for step, v in points)
      for name, points in values["curves"].items()
    }
    return Run(**values)
  except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
    return None


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
  return math.nan if value is None else float(value)
