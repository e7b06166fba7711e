"""What is known of a run from its folder alone, whole or broken, while it goes.

Reads files and starts no device; what a file does not say is left out, and
what should be there and is not is named under `missing`.
"""

import calendar
import json
import os
import pathlib
import socket
import statistics
import time
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .events import ENDS
from .logs import read_lines

FILES = {
  "config": "config.json",
  "metrics": "metrics.jsonl",
  "events": "events.jsonl",
  "detail": "detail.jsonl",
  "figure": "loss.png",
  "detail_figure": "detail.png",
  "tensorboard": "tensorboard",
  "checkpoints": "checkpoints",
  "damaged_checkpoints": "damaged",
  "evidence": "bad",
  "profile": "profile",
  "wandb": "wandb",
}
NEEDED = ("config", "metrics", "events", "checkpoints")


def story(workdir: str | pathlib.Path) -> dict[str, Any]:
  """All facts of one run, as plain values.

  Raises:
    UserError: the folder is not there, or holds nothing of a run.
  """
  workdir = pathlib.Path(workdir).expanduser()
  there = {k: workdir / v for k, v in FILES.items() if (workdir / v).exists()}
  if not there.keys() & set(NEEDED):
    raise UserError(
      f"{workdir} holds no run ({', '.join(FILES[k] for k in NEEDED)}); give"
      " the folder that ablax train named"
    )
  record = _record(there.get("config"))
  lines, events = (
    [line for line in read_lines(workdir / FILES[k]) if "step" in line]
    for k in ("metrics", "events")
  )
  missing = [FILES[k] for k in NEEDED if k not in there]
  if "config" in there and not record:
    missing.append(f"what {FILES['config']} should say")
  found: dict[str, Any] = {
    "name": workdir.resolve().name,
    "workdir": str(workdir),
    "missing": missing,
    **_config(record),
    **_progress(record, lines, events),
    **_heldout(lines),
    "checkpoints": _checkpoints(workdir / FILES["checkpoints"]),
    "files": {k: str(path) for k, path in there.items()},
  }
  return {k: v for k, v in found.items() if v is not None}


def _record(file: pathlib.Path | None) -> dict[str, Any]:
  try:
    record = json.loads(file.read_text(encoding="utf-8")) if file else {}
  except (ValueError, OSError):
    return {}
  whole = isinstance(record, dict) and isinstance(record.get("config"), dict)
  return record if whole else {}


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
  if not record:
    return {}
  data = record["config"].get("data", {})
  task = data.get("task")
  return {
    "hash": record.get("hash"),
    "changes": differences_from_base(record["config"]),
    "code": record.get("code"),
    "source": f"task {task}"
    if task
    else ", ".join(name for name, *_ in data.get("mixture", ())) or None,
    "tokenizer": None if task else data.get("tokenizer"),
    "data_fingerprint": record.get("data_fingerprint"),
  }


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested values under dotted keys."""
  found = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      found |= flat(value, f"{prefix}{key}.")
    else:
      found[prefix + key] = value
  return found


def differences_from_base(config: Mapping[str, Any]) -> dict[str, Any]:
  """The keys whose value is not that of configs/base.py, nor follows from it.

  A resolved config says model.head_dim=64 where 0 was given, and all options
  of what it chose: such a key is left out if the rest gives the same again.
  """
  from ..configs import base
  from .config import from_dict, resolve

  def plain(tree):
    return flat(json.loads(json.dumps(tree)))

  given = plain(base.get_config().to_dict())
  resolved = plain(resolve(base.get_config()).as_dict())
  found = {
    key: value
    for key, value in flat(config).items()
    if key not in resolved or resolved[key] != value
  }
  # A task makes other keys follow from it, too.
  of_text = not config.get("data", {}).get("task")
  for key in list(found):
    if of_text and key in given and given[key] == resolved.get(key):
      continue
    other = json.loads(json.dumps(config))
    *path, last = key.split(".")
    node = other
    for part in path:
      node = node[part]
    if key in given:
      node[last] = given[key]
    else:  # an option of an entry that base.py does not choose
      del node[last]
    try:
      again = plain(from_dict(other).as_dict())
    except (UserError, TypeError, KeyError):  # a plugin that is gone, say
      continue
    if again.get(key) == found[key]:
      del found[key]
  return found


def _progress(
  record: Mapping[str, Any],
  lines: list[dict[str, Any]],
  events: list[dict[str, Any]],
) -> dict[str, Any]:
  config = record.get("config", {})
  trained = [line for line in lines if "loss" in line]
  starts = [e for e in events if e.get("event") == "start"]
  last = trained[-1] if trained else {}
  steps = config.get("steps")
  if starts:
    steps = starts[-1].get("steps", steps)
  step = max((x.get("step", 0) for x in (*lines, *events)), default=0)
  data = config.get("data", {})
  planned = None
  if steps and {"batch_size", "seq_len"} <= data.keys():
    planned = steps * data["batch_size"] * data["seq_len"]
  status, why = _status(lines, events)

  def median(key: str) -> float | None:
    values = [x[key] for x in trained if x.get(key) is not None]
    return statistics.median(values) if values else None

  return {
    "status": status,
    "why": why,
    "step": step,
    "steps": steps,
    "parameters": starts[-1].get("parameters") if starts else None,
    "devices": starts[-1].get("devices") if starts else None,
    "tokens": last.get("tokens"),
    "planned_tokens": planned,
    "loss": last.get("loss"),
    "losses": [
      [x["step"], x["loss"]] for x in trained if x["loss"] is not None
    ],
    "tokens_per_s": median("tokens_per_s"),
    "peak_fraction": median("peak_fraction"),
    "input_stalls": sum(x.get("input_stalls", 0) for x in trained),
    "noise_scale": last.get("noise_scale"),
    "loss_scale": last.get("loss_scale"),
    "skipped": last.get("skipped"),
    "restarts": max(len(starts) - 1, 0) if events else None,
    "seconds": _seconds(lines, events) if starts else None,
    "warnings": [
      f"step {e.get('step')}: {e.get('text')}"
      for e in events
      if e.get("event") in ("warning", "diverged", "failed")
    ],
  }


def seconds_of(moment: str) -> int:
  """Unix time of what `events.now` wrote."""
  return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))


def _status(
  lines: list[dict[str, Any]], events: list[dict[str, Any]]
) -> tuple[str, str | None]:
  """One of ENDS, running, killed or unknown; and why, where that is known."""
  told = [e for e in events if e.get("event") in ("start", *ENDS)]
  if not told:
    return "unknown", None
  end = told[-1]
  if end["event"] != "start":
    return end["event"], end.get("text")
  seen = max(x["time"] for x in (end, *lines) if "time" in x)
  ago = max(0, round(time.time() - seconds_of(seen)))
  if end.get("host") != socket.gethostname():
    return "running", f"on {end.get('host')}; last heard of {ago} s ago"
  if _alive(end.get("pid", 0)):
    return "running", f"process {end.get('pid')}; last line {ago} s ago"
  return "killed", "its process is gone; the same command goes on"


def _alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except PermissionError:  # somebody else's
    return True
  except (OSError, OverflowError):
    return False
  return True


def _seconds(lines: list[dict[str, Any]], events: list[dict[str, Any]]) -> int:
  """Time in processes: from each start to the last sign of life after it."""
  starts = [e["time"] for e in events if e.get("event") == "start"]
  signs = sorted(x["time"] for x in (*events, *lines) if "time" in x)
  total = 0
  for i, start in enumerate(starts):
    end = starts[i + 1] if i + 1 < len(starts) else None
    mine = [t for t in signs if t >= start and (end is None or t < end)]
    total += seconds_of(max(mine, default=start)) - seconds_of(start)
  return total


def _heldout(lines: list[dict[str, Any]]) -> dict[str, Any]:
  prefix = "heldout/"
  found = [
    {"step": x["step"]}
    | {k.removeprefix(prefix): v for k, v in x.items() if k.startswith(prefix)}
    for x in lines
    if any(k.startswith(prefix) for k in x)
  ]
  # A task has no bytes.
  scores = ("bits_per_byte", "loss")
  best = None
  for score in scores:
    scored = [x for x in found if x.get(score) is not None]
    if scored and best is None:
      best = min(scored, key=lambda x, score=score: x[score])
  return {"heldout": found, "best": best}


def _checkpoints(folder: pathlib.Path) -> list[dict[str, int]]:
  steps = [p for p in folder.glob("*") if p.name.isdigit()]
  return [
    {"step": int(p.name), "bytes": _size(p)}
    for p in sorted(steps, key=lambda p: int(p.name))
  ]


def _size(folder: pathlib.Path) -> int:
  total = 0
  for file in folder.rglob("*"):
    try:
      total += file.stat().st_size if file.is_file() else 0
    except OSError:  # a run that goes on removes old ones meanwhile
      continue
  return total
