"""`ablax ablate`: a comparison of arms over seeds, from one config file."""

import argparse
import pathlib
import sys

from ..__main__ import guarded
from ..errors import UserError
from ..flags import Parser, whole_number

DESCRIPTION = """Trains every arm of a sweep with every seed and reports.

  ablax ablate --config=configs/ablations/norm_placement.py --dry-run
  ablax ablate --config=configs/ablations/norm_placement.py --seeds=5

The file has get_config(), the base, and sweep(), the arms. Any key of the base
can be set as --config.KEY=VALUE. Running the same command again goes on where
it stopped, and repeats nothing that finished; more seeds or arms may be added.

On a cluster, task i of n runs with --shard=i/n, on a common --workdir or with
--share=ADDRESS (examples/slurm, examples/kubernetes)."""


def _parser() -> argparse.ArgumentParser:
  parser = Parser(
    prog="ablax ablate",
    description=DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,  # --seed=3 is not --seeds=3
  )
  add = parser.add_argument
  add("--config", metavar="FILE", help="config file with sweep(), by path")
  add("--workdir", metavar="DIR", help="default: runs/<config name>")
  add(
    "--seeds",
    type=whole_number,
    default=0,
    metavar="N",
    help="default: sweep()'s",
  )
  add("--arms", default="", metavar="A,B", help="these, and the baseline")
  add("--dry-run", action="store_true", help="print the arms and their cost")
  add("--resume", action="store_true", help="refuse to begin a new sweep")
  add(
    "--jobs",
    type=whole_number,
    default=0,
    metavar="N",
    help="processes at a time; default: what cores and memory allow",
  )
  add(
    "--together",
    type=whole_number,
    default=0,
    metavar="K",
    help="seeds in one program; default: 1 on a CPU, else what memory allows",
  )
  add("--shard", default="0/1", metavar="I/N", help="only every N-th job")
  add(
    "--share",
    default="",
    metavar="ADDRESS",
    help="folder of results that machines share, as fsspec takes it",
  )
  add(
    "--mixed",
    action="store_true",
    help="compare runs of other code or data too; the table says so",
  )
  add(
    "--untested",
    action="store_true",
    help="allow one seed, for a table without tests",
  )
  return parser


def main(argv: list[str]) -> int:
  from ..train.config_files import split_args

  path, overrides, rest = split_args(argv)
  given = _parser().parse_args(rest)
  if not path:
    raise UserError(
      "--config=FILE is missing; try"
      " --config=configs/ablations/norm_placement.py"
    )
  for flag in ("seeds", "jobs", "together"):
    if getattr(given, flag) < 0:
      raise UserError(f"--{flag}={getattr(given, flag)} must be positive")
  import jax

  # Sizes are counted on a CPU: the devices are for the processes that train.
  jax.config.update("jax_platforms", "cpu")
  from ..train.report import make_console
  from .run import Options, ablate, dry_run
  from .sweep import default_folder
  from .terminal import show

  console = make_console()
  options = Options(
    seeds=given.seeds,
    arms=given.arms,
    jobs=given.jobs,
    together=given.together,
    shard=given.shard,
    share=given.share,
    mixed=given.mixed,
    untested=given.untested,
    resume=given.resume,
  )
  if given.dry_run:
    dry_run(path, overrides, options, console)
    return 0
  folder = given.workdir or default_folder(path)
  folder = pathlib.Path(folder).expanduser()
  outcome = ablate(path, folder, overrides, options, console)
  if outcome.table:
    show(outcome.table, console)
  if outcome.stopped:
    console.print(f"{outcome.stopped}: stopped; the same command goes on")
  elif outcome.waiting:
    console.print(
      f"{outcome.waiting} runs have not ended: they are other arms', other"
      " shards', or a process's that is at them"
    )
  if outcome.failed:
    console.print(
      f"{outcome.failed} runs failed; the same command tries them again",
      style="yellow",
    )
  console.print(f"all of it is in {folder}", markup=False)
  if outcome.stopped:
    return 130
  return 1 if outcome.failed else 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
