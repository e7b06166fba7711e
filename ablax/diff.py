"""`ablax diff`: what two runs differ in, config and result."""

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from .__main__ import guarded
from .flags import Parser

_EXAMPLES = """\
examples:
  ablax diff runs/norms/pre/seed-0 runs/norms/post/seed-0
  ablax diff --json runs/a runs/b
"""

_ABSENT = "(absent)"
# What is shown of a run besides its metrics, under these names.
_FACTS = {
  "status": "status",
  "step": "updates",
  "tokens": "tokens",
  "parameters": "parameters",
  "tokens_per_s": "tokens/s",
  "seconds": "seconds",
}


def compare(a: pathlib.Path, b: pathlib.Path) -> dict[str, Any]:
  """All that two runs differ in, as plain values.

  Raises:
    UserError: one of the folders holds no run.
  """
  from .train.logs import read_metrics
  from .train.story import story
  from .train.workdir import read_run

  records, stories = [read_run(f) for f in (a, b)], [story(f) for f in (a, b)]
  lines = [read_metrics(f) for f in (a, b)]
  rows = [_last(of) for of in lines]
  facts = {
    name: [s.get(key) for s in stories]
    for key, name in _FACTS.items()
    if any(key in s for s in stories)
  }
  flops = [_flops(f) for f in (a, b)]
  if any(n is not None for n in flops):
    facts["training FLOPs"] = flops
  return {
    "runs": [str(a), str(b)],
    "hashes": [r["hash"] for r in records],
    "config": _pairs(*(r["config"] for r in records)),
    "code": _pairs(*(r["code"] for r in records)),
    "data": _pairs(
      *(
        {k: r.get(k) for k in ("data_fingerprint", "tokenizer", "vocab_size")}
        for r in records
      )
    ),
    "facts": facts,
    "metrics": {
      name: [row.get(name) for row in rows]
      for name in sorted({*rows[0], *rows[1]})
    },
    "losses": _losses(*lines),
  }


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
  """The dotted keys at which two trees differ, with both values."""
  from .train.story import flat

  one, two = flat(a), flat(b)
  found = {}
  for key in [*one, *(k for k in two if k not in one)]:
    values = [tree.get(key, _ABSENT) for tree in (one, two)]
    # 1 and True are equal, and 1 and 1.0: as JSON they are not.
    if json.dumps(values[0]) != json.dumps(values[1]):
      found[key] = values
  return found


def _last(lines: list[dict[str, Any]]) -> dict[str, float]:
  """The last value of the loss and of each held-out metric."""
  return {
    name: value
    for line in lines
    for name, value in line.items()
    if (name == "loss" or name.startswith("heldout/"))
    and isinstance(value, int | float)
  }


def _losses(
  a: list[dict[str, Any]], b: list[dict[str, Any]]
) -> dict[str, int | None]:
  """How far two runs have the same losses, to the last bit.

  A line of JSON gives a float back as it was.
  """
  one, two = (
    {line["step"]: line["loss"] for line in lines if "loss" in line}
    for lines in (a, b)
  )
  common = sorted(one.keys() & two.keys())
  apart = [step for step in common if one[step] != two[step]]
  same = [s for s in common if not apart or s < apart[0]]
  return {
    "steps_in_common": len(common),
    "last_equal": same[-1] if same else None,
    "first_different": apart[0] if apart else None,
  }


def _flops(run: pathlib.Path) -> float | None:
  """Of the whole run, where it is one of a sweep's whose record has it."""
  from .ablate.record import FILE, read
  from .errors import UserError

  run = run.resolve()
  for folder in list(run.parents)[:3]:
    if not (folder / FILE).is_file():
      continue
    try:
      runs = read(folder).runs
    except UserError:
      return None
    for row in runs:
      if (folder / row.workdir).resolve() == run:
        return row.train_flops
  return None


def show(found: Mapping[str, Any], console: Any) -> None:
  from rich.table import Table

  a, b = _names(*found["runs"])
  if not console.is_terminal:  # a file has no width to keep to
    console.width = 1000

  def table(title: str, rows: Mapping[str, list[Any]], more: bool) -> None:
    columns = [title, a, b, *(["difference"] if more else [])]
    shown = Table()
    for i, name in enumerate(columns):
      shown.add_column(
        name, overflow="fold", justify="right" if more and i else "left"
      )
    for name, values in rows.items():
      gap = [_difference(*values)] if more else []
      shown.add_row(name, *map(_text, values), *gap)
    console.print(shown, markup=False)

  if found["config"]:
    table("config", found["config"], False)
  elif len(set(found["hashes"])) == 1:
    console.print("config: the same")
  else:
    console.print("config: the same keys, but another text of a plugin")
  for what in ("code", "data"):
    if found[what]:
      table(what, found[what], False)
    else:
      console.print(f"{what}: the same")
  table("result", {**found["facts"], **found["metrics"]}, True)
  console.print(_told(found["losses"]), markup=False)


def _names(a: str, b: str) -> tuple[str, str]:
  """The runs' paths without the folders that they share."""
  one, two = pathlib.Path(a).parts, pathlib.Path(b).parts
  while len(one) > 1 and len(two) > 1 and one[0] == two[0]:
    one, two = one[1:], two[1:]
  return str(pathlib.Path(*one)), str(pathlib.Path(*two))


def _text(value: Any) -> str:
  if value is None:
    return "–"
  if isinstance(value, bool | str):
    return str(value)
  if isinstance(value, int):
    return f"{value:,}"
  return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _difference(a: Any, b: Any) -> str:
  """The second minus the first, and what share of the first that is."""
  if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (a, b)):
    return "" if a == b else "other"
  if a == b:
    return "equal"
  share = f" ({100 * (b - a) / abs(a):+.2f} %)" if a else ""
  gap = f"{b - a:+,}" if isinstance(b - a, int) else f"{b - a:+.6g}"
  return gap + share


def _told(losses: Mapping[str, int | None]) -> str:
  n, apart = losses["steps_in_common"], losses["first_different"]
  if not n:
    return "losses: no update is in both logs"
  if apart is None:
    return f"losses: the same bits in all {n} updates that both logs have"
  same = losses["last_equal"]
  before = f"; the same bits until {same}" if same is not None else ""
  return f"losses: first differ at update {apart}{before}"


def main(argv: list[str]) -> int:
  parser = Parser(
    prog="ablax diff",
    description="Shows in what two runs differ: config, code and data, and"
    " what came of it. The difference is of the second to the first.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("run_a", metavar="RUN_A", help="workdir of a run")
  parser.add_argument("run_b", metavar="RUN_B", help="workdir of another")
  parser.add_argument("--json", action="store_true", help="for machines")
  given = parser.parse_args(argv)
  from .train.report import make_console

  runs = [pathlib.Path(x).expanduser() for x in (given.run_a, given.run_b)]
  found = compare(*runs)
  if given.json:
    print(json.dumps(found, indent=2))
  else:
    show(found, make_console())
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
