"""`ablax info`: a run's story on one screen, or several runs side by side."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .__main__ import guarded
from .errors import UserError

_EXAMPLES = """\
examples:
  ablax info runs/tiny-0123456789
  ablax info runs/*               # a table
  ablax info --costs runs/tiny-0123456789
  ablax info --json runs/tiny-0123456789
"""

WIDTH, HEIGHT = 60, 6  # of the curve, in characters


def curve(
  points: Sequence[Sequence[float | int]],
  width: int = WIDTH,
  height: int = HEIGHT,
) -> list[str]:
  """(x, y) points as lines of Braille dots, two by four in a character.

  Each column of dots is the mean of the points that fall into it, or lies
  between its neighbours.
  """
  import numpy as np

  xs, ys = np.asarray(points, float).T
  where = (xs - xs.min()) / (np.ptp(xs) or 1) * (2 * width - 1)
  bins = where.round().astype(int)
  filled, place = np.unique(bins, return_inverse=True)
  means = np.bincount(place, ys) / np.bincount(place)
  curve = np.interp(np.arange(2 * width), filled, means)
  share = (curve - ys.min()) / (np.ptp(ys) or 1)
  rows = ((1 - share) * (4 * height - 1)).round().astype(int)
  cells = [[0] * width for _ in range(height)]
  # Bits of a Braille character, by column and by row from the top.
  dots = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
  for column, row in enumerate(rows):
    cells[row // 4][column // 2] |= dots[column % 2][row % 4]
  return ["".join(chr(0x2800 + cell) for cell in line) for line in cells]


def _duration(seconds: int) -> str:
  minutes, s = divmod(seconds, 60)
  h, m = divmod(minutes, 60)
  return f"{h} h {m:02} min" if h else f"{m} min {s:02} s" if m else f"{s} s"


def _rows(s: Mapping[str, Any]) -> list[tuple[str, str]]:
  """(what, value) for one run; what is not known is left out."""
  from .train.report import count, size

  rows = []

  def row(what: str, *parts: str | None) -> None:
    if said := [part for part in parts if part]:
      rows.append((what, "  ".join(said)))

  def of(key: str, text: str) -> str | None:
    return text.format(s[key]) if key in s else None

  row("status", s["status"], of("why", "({})"))
  if s["missing"]:
    row("missing", ", ".join(s["missing"]))
  code = s.get("code") or {}
  commit = code.get("commit", "")[:10]
  dirty = " with changes" if code.get("dirty") == "true" else ""
  row(
    "code",
    f"ablax {code['ablax']}" if "ablax" in code else None,
    f"commit {commit}{dirty}" if commit else None,
    f"jax {code['jax']}" if "jax" in code else None,
  )
  changes = s.get("changes", {})
  row(
    "config",
    of("hash", "{}"),
    ", ".join(f"{k}={v}" for k, v in changes.items()) or "as configs/base.py"
    if "changes" in s
    else None,
  )
  row(
    "data",
    of("source", "{}"),
    of("tokenizer", "as {}"),
    f"fingerprint {s['data_fingerprint'][:10]}"
    if "data_fingerprint" in s
    else None,
  )
  row(
    "parameters",
    count(s["parameters"]) if "parameters" in s else None,
    of("devices", "on {}"),
  )
  row(
    "updates",
    f"{s['step']:,}" + (f" of {s['steps']:,}" if "steps" in s else ""),
    f"{count(s['tokens'])} tokens" if "tokens" in s else None,
    f"of {count(s['planned_tokens'])}" if "planned_tokens" in s else None,
  )
  row(
    "speed",
    f"{count(s['tokens_per_s'])} tokens/s" if "tokens_per_s" in s else None,
    of("peak_fraction", "{:.0%} of the matmul peak"),
    f"input waited for {s['input_stalls']} times" if s["input_stalls"] else "",
  )
  row(
    "time",
    _duration(s["seconds"]) if "seconds" in s else None,
    of("restarts", "{} restarts") if s.get("restarts") else None,
  )
  row("loss", of("loss", "{:.4f} nats per token"))
  row("noise scale", of("noise_scale", "{:,.0f} tokens"))
  row("loss scale", of("loss_scale", "{:g}"), of("skipped", "{:g} skipped"))
  if s["heldout"]:
    row("held-out", *_heldout(s))
  kept = s["checkpoints"]
  row(
    "checkpoints", ", ".join(f"{c['step']} ({size(c['bytes'])})" for c in kept)
  )
  for warning in s["warnings"][-3:]:
    row("warning", warning)
  if s["warnings"][3:]:
    row("", f"and {len(s['warnings']) - 3} more before, in events.jsonl")
  return rows


def _heldout(s: Mapping[str, Any]) -> list[str]:
  last, best = s["heldout"][-1], s.get("best")
  said = []
  if last.get("accuracy") is not None:  # of a task, whose best is by the loss
    said.append(f"accuracy {last['accuracy']:.4f} at {last['step']}")
    if best and best["step"] != last["step"]:
      said.append(f"at the best loss {best['accuracy']:.4f} at {best['step']}")
  if last.get("bits_per_byte") is not None:
    said.append(f"{last['bits_per_byte']:.4f} bits per byte at {last['step']}")
    if best and best["step"] != last["step"]:
      said.append(f"best {best['bits_per_byte']:.4f} at {best['step']}")
  return [*said, f"{len(s['heldout'])} evaluations"]


def show(s: Mapping[str, Any], console: Any) -> None:
  from rich.table import Table

  table = Table(
    title=s["name"], title_justify="left", show_header=False, box=None
  )
  table.add_column(style="bold", no_wrap=True)
  table.add_column(overflow="fold")
  for what, value in _rows(s):
    table.add_row(what, value)
  console.print(table, markup=False)
  if len(s["losses"]) > 1 and (console.encoding or "").startswith("utf"):
    ys = [y for _, y in s["losses"]]
    lines = curve(s["losses"])
    labels = {0: f"{max(ys):.3f}", len(lines) - 1: f"{min(ys):.3f}"}
    for i, line in enumerate(lines):
      console.print(f"{labels.get(i, ''):>12}  {line}", markup=False)
    first, last = s["losses"][0][0], s["losses"][-1][0]
    console.print(f"{'loss':>12}  {first:<{WIDTH - 10}}{last:>10}")
  console.print(f"\nall of it is in {s['workdir']}", markup=False)


def _compare(stories: Sequence[Mapping[str, Any]], console: Any) -> None:
  """One row for each run, and the keys in which they differ."""
  from rich.table import Table

  from .train.report import count

  tasks = all("accuracy" in (s["heldout"] or [{}])[-1] for s in stories)
  score = "accuracy" if tasks else "bits_per_byte"
  table = Table(
    *("run", "status", "updates", "tokens", "loss"),
    *(score if tasks else "bits/byte", "best", "tokens/s", "time"),
  )
  keys = {k for s in stories for k in s.get("changes", {})}
  differ = sorted(
    k
    for k in keys
    if len({json.dumps(s.get("changes", {}).get(k)) for s in stories}) > 1
  )
  for key in differ:
    table.add_column(key)

  def text(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)

  for s in stories:
    last = (s["heldout"] or [{}])[-1]
    changes = s.get("changes", {})
    table.add_row(
      s["name"],
      s["status"],
      f"{s['step']:,}" + (f" of {s['steps']:,}" if "steps" in s else ""),
      count(s["tokens"]) if "tokens" in s else "",
      text(s.get("loss"), "{:.4f}"),
      text(last.get(score), "{:.4f}"),
      text((s.get("best") or {}).get(score), "{:.4f}"),
      count(s["tokens_per_s"]) if "tokens_per_s" in s else "",
      _duration(s["seconds"]) if "seconds" in s else "",
      *(str(changes.get(key, "as base")) for key in differ),
    )
  for column in table.columns:
    column.overflow = "fold"  # nothing is cut off
  if not console.is_terminal:  # a file has no width to keep to
    console.width = 1000
  console.print(table, markup=False)


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(
    prog="ablax info",
    description="Tells what is known of a run from its folder: while it goes,"
    " after it, and of a broken one. Several runs make a table.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("runs", nargs="+", metavar="RUN", help="workdir of a run")
  parser.add_argument(
    "--costs",
    action="store_true",
    help="also FLOPs by part and bytes, counted from the config",
  )
  parser.add_argument("--json", action="store_true", help="for machines")
  given = parser.parse_args(argv)
  from .costs import costs, show_costs
  from .train.report import make_console
  from .train.story import story

  several, stories = len(given.runs) > 1, []
  for run in given.runs:
    try:
      told = story(run)
      stories.append({**told, "costs": costs(run)} if given.costs else told)
    except UserError as error:
      if not several:
        raise
      # As runs/* brings them along.
      print(f"left out: {error}", file=sys.stderr)
  if not stories:
    raise UserError(f"none of the {len(given.runs)} folders holds a run")
  if given.json:
    print(json.dumps(stories if several else stories[0], indent=2))
    return 0
  console = make_console()
  if several:
    _compare(stories, console)
  else:
    show(stories[0], console)
  for s in stories if given.costs else ():
    console.print()
    show_costs(s, console)
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
