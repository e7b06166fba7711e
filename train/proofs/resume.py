"""Proof: a run killed with -9 and resumed ends in the same bits."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np

from ...errors import UserError
from ..checkpoint import load_state
from ..config import Config
from ..logs import read_metrics
from . import Check


class Failed(Exception):
  """A run that should have ended well did not."""


def _start(file: pathlib.Path, workdir: pathlib.Path) -> subprocess.Popen:
  command = [sys.executable, "-m", "ablax.train"]
  command += [f"--config={file}", f"--workdir={workdir}"]
  # Where ablax is not installed, the child must find this checkout too.
  root = str(pathlib.Path(__file__).resolve().parents[2])
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
  )


def _finish(run: subprocess.Popen) -> str:
  output, _ = run.communicate()
  if run.returncode:
    raise Failed(f"exit code {run.returncode}: {output.strip()[-500:]}")
  return output


def _last_step(workdir: pathlib.Path) -> int:
  return max((x["step"] for x in read_metrics(workdir)), default=0)


def _committed(workdir: pathlib.Path) -> int:
  folders = (workdir / "checkpoints").glob("*")
  return max((int(f.name) for f in folders if f.name.isdigit()), default=0)


def _kill(
  run: subprocess.Popen, workdir: pathlib.Path, after: int, pause: float
) -> int:
  """Kills once this process has logged `after` and `pause` seconds passed.

  Returns:
    The exit code: -9 where the kill came before the end.
  """
  file = workdir / "metrics.jsonl"
  before = file.stat().st_ino if file.exists() else None

  def logged() -> bool:
    # A run that starts writes the file anew, without the lines it will redo.
    fresh = file.exists() and file.stat().st_ino != before
    return fresh and _last_step(workdir) >= after

  while run.poll() is None and not logged():
    time.sleep(0.005)
  time.sleep(pause)
  run.send_signal(signal.SIGKILL)
  run.communicate()
  return run.returncode


def _order(workdir: pathlib.Path) -> list[tuple]:
  lines = [x for x in read_metrics(workdir) if "batch" in x]
  keys = ("step", "batch", "loss", "grad_norm", "tokens")
  return [tuple(x[key] for key in keys) for x in lines]


def prove(config: Config, steps: int = 12, kills: int = 1) -> Iterator[Check]:
  """Trains `steps` updates twice: left alone, and killed at random moments.

  Args:
    steps: updates of each run.
    kills: how often the second run is killed, one after the other.
  """
  if kills < 1 or steps < 2:
    raise UserError(
      f"--kills={kills} must be at least 1, and --steps={steps} at least 2"
    )
  values = config.as_dict()
  values["steps"] = steps
  values["opt"]["warmup_steps"] = min(config.opt.warmup_steps, steps)
  for options in values["opt"]["opts"].values():
    if "every" in options:  # of opt.average=latest, say: it must come to pass
      options["every"] = min(options["every"], steps)
  values["checkpoint"] |= {"every": max(1, steps // 4), "keep": 3}
  values["eval"] |= {"every": 0, "prompts": []}
  values["log"] |= {"every": 1}
  moments = random.Random()
  with tempfile.TemporaryDirectory(prefix="ablax-prove-") as folder:
    root = pathlib.Path(folder)
    file = root / "config.json"
    file.write_text(json.dumps({"config": values}), encoding="utf-8")
    alone, killed = root / "alone", root / "killed"
    try:
      _finish(_start(file, alone))
      tokens = config.data.batch_size * config.data.seq_len
      speeds = [x["tokens_per_s"] for x in read_metrics(alone) if "loss" in x]
      step_seconds = tokens / float(np.median(speeds))
      for _ in range(kills):
        after = moments.randint(_committed(killed), steps - 1)
        pause = moments.random() * step_seconds
        code = _kill(_start(file, killed), killed, after, pause)
        reached, saved = _last_step(killed), _committed(killed)
        resumed = _resumed_at(killed)
        yield Check(
          f"killed after step {reached}: goes on from the last checkpoint",
          code == -signal.SIGKILL and resumed == saved,
          f"exit code {code}, saved {saved}, {reached - resumed} steps lost",
        )
      _finish(_start(file, killed))
    except Failed as failure:
      yield Check("the run ends well", False, str(failure))
      return
    yield from compare(alone, killed)


def _resumed_at(workdir: pathlib.Path) -> int:
  """What a fresh reader finds to go on from."""
  if not _committed(workdir):
    return 0
  return int(load_state(workdir)[1].step)


def compare(alone: pathlib.Path, killed: pathlib.Path) -> Iterator[Check]:
  """Compares two finished runs, bit by bit."""
  a, b = load_state(alone)[1], load_state(killed)[1]
  parts = ["params", "opt_state", "rng", "step"]
  if a.loss_scale:
    parts.append("loss_scale")
  for what in parts:
    pairs = list(
      zip(
        jax.tree_util.tree_flatten_with_path(getattr(a, what))[0],
        jax.tree.leaves(getattr(b, what)),
        strict=True,
      )
    )
    different = [
      jax.tree_util.keystr(path)
      for (path, x), y in pairs
      if np.asarray(x).tobytes() != np.asarray(y).tobytes()
    ]
    numbers = sum(x.size for (_, x), _ in pairs)
    yield Check(
      f"{what}: the same bits",
      not different,
      f"{len(different)} of {len(pairs)} arrays differ: {different[0]}"
      if different
      else f"{numbers:,} numbers in {len(pairs)} arrays",
    )
  one, other = _order(alone), _order(killed)
  first = next((x for x, y in zip(one, other) if x[:2] != y[:2]), None)  # noqa: B905
  yield Check(
    "the data came in the same order",
    [x[:2] for x in one] == [x[:2] for x in other],
    f"step {first[0]} differs" if first else f"{len(one)} batches, by hash",
  )
  first = next((x for x, y in zip(one, other) if x != y), None)  # noqa: B905
  yield Check(
    "every step had the same loss and gradient norm",
    one == other,
    f"step {first[0]} differs" if first else f"{len(one)} steps, to the bit",
  )
