"""`ablax report`: a comparison's table, text and figures, from its record."""

import argparse
import pathlib
import sys

from .__main__ import guarded
from .flags import Parser

_EXAMPLES = """\
examples:
  ablax report runs/optimizers
  ablax report runs/optimizers --metric=heldout/loss --out=runs/by-loss
  ablax report runs/optimizers gs://bucket/more-optimizers --out=runs/both
"""


def main(argv: list[str]) -> int:
  parser = Parser(
    prog="ablax report",
    description="Writes report.md, report.html, table.tex and figures/ anew"
    " from the runs.parquet of a sweep. Sweeps with one baseline are merged."
    " A folder may be any path that fsspec reads.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    "folders", nargs="+", metavar="DIR", help="workdir of ablax ablate"
  )
  parser.add_argument(
    "--out",
    metavar="DIR",
    help="where to write (default: the first DIR); the merged record too",
  )
  parser.add_argument(
    "--metric",
    metavar="NAME",
    help="compare this, not what the sweep was made for; the report says so",
  )
  parser.add_argument(
    "--goal",
    choices=("min", "max"),
    help="which is better of --metric (default: the sweep's)",
  )
  parser.add_argument(
    "--mixed",
    action="store_true",
    help="merge runs of other code, data or tokenizer; the report says so",
  )
  given = parser.parse_args(argv)
  from .ablate.merge import merge
  from .ablate.record import read, write
  from .ablate.report import write_report
  from .ablate.terminal import show
  from .train.report import make_console

  record = merge([read(folder) for folder in given.folders], given.mixed)
  out = given.out or given.folders[0]
  table, names = write_report(record, out, given.metric, given.goal)
  # The sweeps' own records stay as they are.
  if _place(out) not in map(_place, given.folders):
    write(record, out)
  show(table, make_console())
  print(f"\nwrote {', '.join(names)} in {out}")
  return 0


def _place(folder: str) -> str:
  """One name for a folder, however it is written."""
  if "://" in folder:
    return folder.rstrip("/")
  return str(pathlib.Path(folder).expanduser().resolve())


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
