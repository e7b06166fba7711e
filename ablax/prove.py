"""`ablax prove`: shows a property on your own config."""

import argparse
import os
import sys

from .__main__ import guarded
from .errors import UserError, nearest

_EXAMPLES = """\
examples:
  ablax prove mixer --config=configs/lm/tiny.py
  ablax prove resume --config=configs/lm/tiny.py --kills=3
  ablax prove mup --config=configs/lm/tiny.py --figure=mup.png
"""

# argument -> the proof that takes it
_ONLY_FOR = {
  "steps": "resume",
  "kills": "resume",
  "widths": "mup",
  "figure": "mup",
}


def main(argv: list[str]) -> int:
  # Before jax is imported: eight devices even on a CPU, to compare meshes.
  flag = "--xla_force_host_platform_device_count"
  if "mixer" in argv and flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}=8"
  from .train.config import load
  from .train.config_files import split_args
  from .train.proofs import PROOFS, find
  from .train.report import make_console

  lines = "\n".join(f"  {name:<11} {what}" for name, what in PROOFS.items())
  parser = argparse.ArgumentParser(
    prog="ablax prove",
    usage="ablax prove PROOF --config=FILE [--config.KEY=VALUE ...]",
    description=f"Shows a property on your own config:\n\n{lines}\n\n"
    "Prints what it compared; exits with 1 where the property does not hold.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("proof", help="one of the names above")
  parser.add_argument("--config", metavar="FILE", help="config file, by path")
  parser.add_argument(
    "--steps", type=int, help="resume: updates of each run (default 12)"
  )
  parser.add_argument(
    "--kills", type=int, help="resume: how often to kill (default 1)"
  )
  parser.add_argument(
    "--widths",
    type=lambda text: tuple(map(int, text.split(","))),
    metavar="D,D",
    help="mup: values of d_model (default 1, 2 and 4 times the base)",
  )
  parser.add_argument(
    "--figure", metavar="FILE", help="mup: draw the coordinate check there"
  )
  path, overrides, rest = split_args(argv)
  given = parser.parse_args(rest)
  if given.proof not in PROOFS:
    raise UserError(
      f"{given.proof!r} is not a proof{nearest(given.proof, PROOFS)}"
    )
  if not path:
    raise UserError("--config=FILE is missing; try --config=configs/lm/tiny.py")
  arguments = {
    name: getattr(given, name)
    for name in _ONLY_FOR
    if getattr(given, name) is not None
  }
  for name in arguments:
    if given.proof != _ONLY_FOR[name]:
      raise UserError(f"--{name} is only for: prove {_ONLY_FOR[name]}")
  config = load(path, overrides)
  console = make_console()
  console.print(f"{given.proof}: {PROOFS[given.proof]}")
  failed = n = 0
  for check in find(given.proof)(config, **arguments):
    n += 1
    failed += not check.holds
    mark = "[green]holds[/]" if check.holds else "[red]FAILS[/]"
    console.print(f"  {mark}  {check.claim}", end="  ")
    console.print(check.seen, style="dim", markup=False)
  console.print(
    f"{given.proof}: {n - failed} of {n} comparisons hold"
    + (": NOT proven" if failed or not n else "")
  )
  return 1 if failed or not n else 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
