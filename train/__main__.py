"""`ablax train`: trains a model from one config file."""

import argparse
import pathlib
import sys

from ..__main__ import guarded
from ..errors import UserError

DESCRIPTION = """Trains a model from one config file.

  ablax train --config=configs/lm/tiny.py
  ablax train --config=configs/lm/tiny.py --config.opt.lr=3e-3 --dry-run

Any key of the config can be set as --config.KEY=VALUE; configs/base.py lists
them. Running the same command again goes on where it stopped."""


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(
    prog="ablax train",
    description=DESCRIPTION,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--config", metavar="FILE", help="config file, by path")
  parser.add_argument(
    "--workdir", metavar="DIR", help="default: runs/<config name>-<hash>"
  )
  parser.add_argument(
    "--dry-run", action="store_true", help="print the plan and stop"
  )
  parser.add_argument(
    "--profile",
    default="",
    metavar="START:END",
    help="trace the updates START to END - 1 into the workdir, for xprof; the"
    " first few compile",
  )
  from .config import load
  from .config_files import split_args

  path, overrides, rest = split_args(argv)
  arguments = parser.parse_args(rest)
  if not path:
    raise UserError("--config=FILE is missing; try --config=configs/lm/tiny.py")
  from .guard import Diverged
  from .loop import plan, train
  from .report import make_console
  from .trace import NOTHING, parse
  from .workdir import default_workdir

  config = load(path, overrides)
  profile = NOTHING
  if arguments.profile:
    profile = parse(arguments.profile, config.steps)
  name = pathlib.Path(path).stem
  if arguments.dry_run:
    plan(config, name, make_console())
    print(f"workdir: {arguments.workdir or default_workdir(config, name)}")
    return 0
  try:
    train(config, arguments.workdir, name=name, profile=profile)
  except Diverged as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
