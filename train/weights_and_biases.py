"""Weights & Biases as a sink of a run's numbers, online or offline."""

import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from .logs import numbers
from .namespaces import LogConfig
from .workdir import read_run


def find_wandb(mode: str) -> Any:
  """The package; raises UserError where it is not installed."""
  try:
    import wandb
  except ImportError:
    wandb = None
  # A folder of runs that is called wandb imports too, and is empty.
  if not hasattr(wandb, "init"):
    raise UserError(
      f"log.wandb={mode!r} needs the package wandb: pip install wandb (or set"
      " log.wandb to '')"
    )
  return wandb


class WandB:
  """One W&B run for one workdir: it keeps its id there, and goes on with it."""

  def __init__(self, workdir: pathlib.Path, config: LogConfig):
    mode = config.wandb
    wandb = find_wandb(mode)
    facts = dict(read_run(workdir))
    try:
      self._run = wandb.init(
        project=config.project,
        name=workdir.name,
        id=_run_id(workdir, facts["hash"]),
        dir=str(workdir),
        config={**facts.pop("config"), **facts},
        mode=mode,
        # Offline there is nobody to ask; the parts are joined by their id.
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(silent=True, console="off"),
      )
    except wandb.errors.Error as error:
      line = str(error).strip().splitlines()[0]
      raise UserError(
        f"log.wandb={mode!r}: {line}; log in with: wandb login, or set"
        " log.wandb=offline"
      ) from error
    # Ours, not W&B's own counter: a restart may go back some updates.
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")
    if mode == "offline":
      folder = pathlib.Path(self._run.dir).parent
      where = f"upload with wandb sync {folder}"
    else:  # W&B warns where the URL is read offline
      where = self._run.url
    self.where = f"Weights & Biases: {where}"

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    self._run.log({**dict(numbers(metrics)), "step": step})

  def flush(self) -> None:
    """W&B's own process has it already."""

  def close(self) -> None:
    self._run.finish()


def _run_id(workdir: pathlib.Path, run_hash: str) -> str:
  """The id in WORKDIR/wandb_id; the config's hash and some chance."""
  file = workdir / "wandb_id"
  if not file.exists():
    file.write_text(f"{run_hash}-{secrets.token_hex(4)}", encoding="utf-8")
  return file.read_text(encoding="utf-8")
