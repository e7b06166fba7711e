"""`ablax COMMAND ...`: each command is also `python -m ablax.COMMAND`."""

import importlib
import os
import sys
from collections.abc import Callable

import absl.logging

from . import __version__
from .errors import UserError, is_disk_full, nearest

COMMANDS = {
  "train": ("ablax.train.__main__", "train a model from one config file"),
  "ablate": ("ablax.ablate.__main__", "compare arms over seeds: a sweep"),
  "report": ("ablax.report", "the tables and figures of a sweep"),
  "diff": ("ablax.diff", "what two runs differ in"),
  "eval": ("ablax.eval", "evaluate a trained model"),
  "info": ("ablax.info", "tell a run's story, or compare several"),
  "sample": ("ablax.sample", "generate text from a trained model"),
  "prove": ("ablax.prove", "prove a property on your own config"),
  "prepare": ("ablax.prepare", "clean, tokenize and pack a config's text"),
  "tokenizer": ("ablax.tokenizer", "train a tokenizer and measure it"),
  "catalog": ("ablax.catalog", "list every technique, its file and paper"),
}


def guarded(main: Callable[[list[str]], int | None], argv: list[str]) -> int:
  """Runs a command; a mistake of the user's is one line and exit code 2."""
  # Orbax and Grain report what they do through absl, at length.
  absl.logging.set_verbosity(absl.logging.ERROR)
  try:
    code = main(argv) or 0
    sys.stdout.flush()
    return code
  except (UserError, NotImplementedError) as error:
    if not str(error):
      raise
    print(f"error: {error}", file=sys.stderr)
    return 2
  except BrokenPipeError:  # `ablax catalog | head`
    # What is still buffered goes nowhere: Python flushes it at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except (
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
  ) as error:
    print(
      f"error: {error.filename}: {error.strerror}; choose another place",
      file=sys.stderr,
    )
    return 2
  except (OSError, RuntimeError, ValueError) as error:
    if not is_disk_full(error):
      raise
    name = getattr(error, "filename", None)
    where = f" ({name})" if name else ""
    print(
      f"error: the disk is full{where}; what was saved before is intact:"
      " free some space and run the same command again",
      file=sys.stderr,
    )
    return 1
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    return 130


def main(argv: list[str] | None = None) -> int:
  argv = sys.argv[1:] if argv is None else argv
  if argv and argv[0] in COMMANDS:
    module = importlib.import_module(COMMANDS[argv[0]][0])
    return guarded(module.main, argv[1:])
  return guarded(_overview, argv)


def _overview(argv: list[str]) -> int:
  if argv and argv[0] in ("--version", "-V"):
    print(f"ablax {__version__}")
    return 0
  print("usage: ablax COMMAND [options]   (ablax COMMAND --help says more)\n")
  for name, (_, what) in COMMANDS.items():
    print(f"  {name:<10} {what}")
  if argv and argv[0] not in ("--help", "-h"):
    raise UserError(f"{argv[0]!r} is not a command{nearest(argv[0], COMMANDS)}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
