"""The folder of a run: whose it is, and what it was made with."""

import json
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from .. import __version__
from ..errors import UserError
from .config import Config
from .identity import HOW


def code_version() -> dict[str, str]:
  """Versions of ablax (with the commit, in a checkout) and of what it uses."""
  root = pathlib.Path(__file__).resolve().parent.parent
  versions = {"ablax": __version__, "python": platform.python_version()}
  if (root / ".git").exists():

    def git(*args):
      command = ["git", "-C", str(root), *args]
      done = subprocess.run(command, capture_output=True, text=True)
      return done.stdout.strip()

    versions["commit"] = git("rev-parse", "HEAD")
    versions["dirty"] = str(bool(git("status", "--porcelain", "-uno"))).lower()
  for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"):
    versions[package] = metadata.version(package)
  return versions


def default_workdir(config: Config, name: str) -> pathlib.Path:
  return pathlib.Path("runs") / f"{name}-{config.hash}"


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
  """The keys at which two resolved configs differ, each with both values."""
  found = []
  for key in [*old, *(k for k in new if k not in old)]:
    a, b = old.get(key), new.get(key)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      found += differences(a, b, f"{prefix}{key}.")
    elif a != b:
      found.append(f"{prefix}{key} ({a!r} there, {b!r} here)")
  return found


def read_run(workdir: pathlib.Path) -> dict[str, Any]:
  """The `config.json` of a run: config, hash, code, data, vocab_size."""
  file = workdir / "config.json"
  if not file.is_file():
    raise UserError(
      f"{workdir} holds no run (no config.json); train one with: ablax train"
      f" --config=configs/lm/tiny.py --workdir={workdir}"
    )
  try:
    run = json.loads(file.read_text(encoding="utf-8"))
    if {"config", "hash", "code", "vocab_size", "tokenizer"} <= run.keys():
      return run
  except (ValueError, AttributeError):
    pass
  raise UserError(f"{file} is not a run of ablax's; choose another folder")


def claim(
  workdir: pathlib.Path,
  config: Config,
  facts: Mapping[str, Any],
  warn: Callable[[str], None],
) -> None:
  """Makes the folder this run's, or finds that it is already.

  Args:
    facts: data fingerprint, tokenizer and vocab_size, which must agree too.

  Raises:
    UserError: it holds another config's run, or one on other data.
  """
  file = workdir / "config.json"
  code = code_version()
  record = {
    "config": config.as_dict(),
    "hash": config.hash,
    "code": code,
    **facts,
  }
  if file.is_file():
    old = read_run(workdir)
    if old["hash"] != config.hash:
      trees = (old["config"], config.as_dict())
      theirs, ours = (
        {k: v for k, v in tree.items() if k not in HOW} for tree in trees
      )
      found = differences(theirs, ours) or ["the text of a plugin"]
      raise UserError(
        f"{workdir} holds the run of another config, which differs in"
        f" {'; '.join(found[:4])}; choose another --workdir, or go on from"
        f" its weights with --config.init_from={workdir}"
      )
    for key, value in facts.items():
      if old.get(key) != value:
        raise UserError(
          f"{workdir} was trained on other data: its {key} was"
          f" {str(old.get(key))[:12]} and is {str(value)[:12]} now; choose"
          " another --workdir, or bring the data back"
        )
    if old["code"] != code:
      changed = differences(old["code"], code)
      warn(f"{workdir} was begun with other code: {'; '.join(changed)}")
    return
  workdir.mkdir(parents=True, exist_ok=True)
  partial = file.with_suffix(".tmp")
  partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
  partial.replace(file)


def keep_tokenizer(workdir: pathlib.Path, tokenizer: Any) -> None:
  """Puts the tokenizer beside the run: whole, or not at all."""
  folder = workdir / "tokenizer"
  if not folder.is_dir():
    partial = workdir / "tokenizer.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    tokenizer.save(partial)
    partial.rename(folder)
