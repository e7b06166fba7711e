"""Checkpoints (Orbax): asynchronous, atomic, verified when read.

    WORKDIR/checkpoints/STEP/   state (arrays), info (JSON), metrics
    WORKDIR/damaged/STEP/       what could not be read: set aside, not deleted

Orbax commits a step by renaming its folder. It does not notice a flipped bit,
so `info` holds a hash of every leaf, and restoring compares them.
"""

import errno
import itertools
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ..errors import UserError, is_disk_full
from ..models.param import Params
from ..parallel.mesh import make_mesh
from ..parallel.rules import Layout
from .config import Config, from_dict
from .namespaces import CheckpointConfig
from .optimizers import eval_params
from .setup import Setup
from .state import TrainState, fingerprints
from .workdir import read_run


class Damaged(Exception):
  """A checkpoint that can't be read, and why."""


class Checkpoints:
  """The checkpoints of one workdir.

  Keeps the latest `config.keep`, and the one with the least `config.best`.
  """

  def __init__(
    self, workdir: pathlib.Path, config: CheckpointConfig | None = None
  ):
    self.workdir = workdir
    self.folder = workdir / "checkpoints"
    self._config = config
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    if self._config is None:
      options = ocp.CheckpointManagerOptions(read_only=True)
      return ocp.CheckpointManager(self.folder.absolute(), options=options)
    best = self._config.best
    keep = policies.AnyPreservationPolicy(
      [
        policies.LatestN(self._config.keep),
        policies.BestN(
          get_metric_fn=lambda metrics: metrics[best],
          reverse=True,
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=keep, enable_async_checkpointing=True
    )
    return ocp.CheckpointManager(self.folder.absolute(), options=options)

  def steps(self) -> list[int]:
    return sorted(self._manager.all_steps())

  def save(
    self,
    step: int,
    state: TrainState,
    info: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Copies the state out of the device and writes it in the background."""
    info = dict(info) | {"fingerprints": fingerprints(state)}
    # JSON has no word for NaN, and in a comparison it would win.
    finite = {k: v for k, v in (metrics or {}).items() if math.isfinite(v)}
    assert self._config is not None, "opened to read"
    rated = self._config.best in finite
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info)
        ),
        metrics=finite if rated else None,
        force=True,
      )
    except Exception as error:
      if is_disk_full(error):
        raise _disk_full(self.folder) from error
      raise

  def wait(self) -> None:
    """Returns when the last save is on disk."""
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      if is_disk_full(error):
        raise _disk_full(self.folder) from error
      raise

  def close(self) -> None:
    self._manager.close()

  def restore(
    self, step: int, abstract: TrainState
  ) -> tuple[TrainState, dict[str, Any]]:
    """Reads one step onto the shardings of `abstract`.

    Raises:
      Damaged: it can't be read, or is not what was written.
    """
    try:
      read = self._manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract),
          info=ocp.args.JsonRestore(),
        ),
      )
      state, info = read["state"], read["info"]
    except Exception as error:
      trouble = isinstance(error, OSError | MemoryError)
      if trouble and not isinstance(error, FileNotFoundError):
        raise  # of the machine: it says nothing of the checkpoint
      line = _first_line(error)
      raise Damaged(f"{self.folder / str(step)}: {line}") from error
    if info is None or "fingerprints" not in info:
      raise Damaged(f"{self.folder / str(step)}: its info is missing")
    now = fingerprints(state)
    written = info["fingerprints"]
    wrong = [k for k in sorted(now | written) if now.get(k) != written.get(k)]
    if wrong:
      raise Damaged(
        f"{self.folder / str(step)}: {wrong[0]} is not what was written"
        + (f" (nor are {len(wrong) - 1} more)" if wrong[1:] else "")
      )
    return state, info

  def restore_whole(
    self, abstract: TrainState
  ) -> tuple[TrainState, dict[str, Any], dict[int, Damaged]] | None:
    """Reads the latest step that is whole; None where there is no step.

    Returns:
      The state, its info, and what is wrong with each step after it.

    Raises:
      UserError: there are steps, and none is whole.
    """
    damaged: dict[int, Damaged] = {}
    for step in reversed(self.steps()):
      try:
        return *self.restore(step, abstract), damaged
      except Damaged as damage:
        damaged[step] = damage
    if damaged:
      raise UserError(
        f"no checkpoint of {self.workdir} can be read (damaged checkpoint"
        f" {next(iter(damaged.values()))}); they are left as they are: begin"
        " again in another --workdir, or use the code that wrote them"
      )
    return None

  def restore_latest(
    self, abstract: TrainState, warn: Callable[[str], None]
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """Reads the latest step that is whole, to go on from it.

    Damaged ones after it are named through `warn` and moved to
    WORKDIR/damaged, since their steps will be saved again.
    """
    found = self.restore_whole(abstract)
    if found is None:
      return None
    state, info, damaged = found
    for step, damage in damaged.items():
      target = _free_name(self.workdir / "damaged" / str(step))
      target.parent.mkdir(exist_ok=True)
      self._manager.close()
      shutil.move(self.folder / str(step), target)
      self._manager = self._open()
      warn(
        f"damaged checkpoint {damage}; it is kept as {target}, and the one"
        " before it is used"
      )
    return state, info


def _free_name(path: pathlib.Path) -> pathlib.Path:
  names = itertools.chain(
    [path], (path.with_suffix(f".{n}") for n in itertools.count(1))
  )
  return next(name for name in names if not name.exists())


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:200]


def _disk_full(folder: pathlib.Path) -> OSError:
  return OSError(errno.ENOSPC, "No space left", str(folder))


def check_space(workdir: pathlib.Path, abstract: TrainState, keep: int) -> None:
  """Raises UserError where the disk can't hold the checkpoints to keep."""
  one = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(abstract))
  # Besides the kept ones: the best one, and the one being written.
  there = len(list((workdir / "checkpoints").glob("[0-9]*")))
  need = max(keep + 2 - there, 1) * one
  free = shutil.disk_usage(workdir).free
  if free < need:
    raise UserError(
      f"{workdir} has {free / 1e6:,.0f} MB free, but checkpoint.keep={keep}"
      f" needs {need / 1e6:,.0f} MB; free some space, lower checkpoint.keep,"
      " or choose another --workdir"
    )


def load_state(
  workdir: str | pathlib.Path, step: int | None = None
) -> tuple[Config, TrainState]:
  """Reads a run's config and its state on this machine's devices.

  Args:
    step: a saved step; None: the latest.
  """
  workdir = pathlib.Path(workdir).expanduser()
  run = read_run(workdir)
  config = from_dict(run["config"]).with_vocab(run["vocab_size"])
  mesh = make_mesh(config.mesh.for_devices(1), jax.local_devices()[:1])
  setup = Setup.of(config, Layout.of(mesh, config.mesh.rules))
  folder = workdir / "checkpoints"
  if not folder.is_dir():
    raise UserError(f"{workdir} has no checkpoint yet; let it train on")
  checkpoints = Checkpoints(workdir)
  steps = checkpoints.steps()
  if not steps:
    raise UserError(f"{workdir} has no checkpoint yet; let it train on")
  if step is not None and step not in steps:
    raise UserError(
      f"{workdir} has no checkpoint of step {step}; it has"
      f" {', '.join(map(str, steps))}"
    )
  try:
    if step is not None:
      return config, checkpoints.restore(step, setup.abstract())[0]
    found = checkpoints.restore_whole(setup.abstract())
    assert found is not None, "there are steps"
    for damage in found[2].values():
      print(
        f"warning: damaged checkpoint {damage}; the one before it is used",
        file=sys.stderr,
      )
    return config, found[0]
  except Damaged as damage:
    others = ", ".join(str(s) for s in steps if s != step) or "no other"
    raise UserError(
      f"damaged checkpoint {damage}; there is: {others}"
    ) from damage
  finally:
    checkpoints.close()


def load_model(
  workdir: str | pathlib.Path, step: int | None = None
) -> tuple[Config, Params, Any]:
  """Reads what generates text: config, evaluation weights and tokenizer.

  Raises:
    UserError: no run, no such step, or a tokenizer that is not the run's.
  """
  from ..data.tasks.symbols import Symbols
  from ..data.tokenizers import TOKENIZERS

  workdir = pathlib.Path(workdir).expanduser()
  config, state = load_state(workdir, step)
  run = read_run(workdir)
  name = config.data.tokenizer
  folder = workdir / "tokenizer"
  if config.data.task:
    tokenizer = Symbols.load(folder)
  else:
    tokenizer = TOKENIZERS[name].load(folder, config.data.opts[name])
  check_tokenizer(folder, tokenizer, run["tokenizer"])
  params = eval_params(config.opt, state.opt_state, state.params)
  return config, params, tokenizer


def check_tokenizer(where: Any, tokenizer: Any, trained_with: str) -> None:
  """Raises UserError where a checkpoint was trained with another one."""
  if tokenizer.fingerprint != trained_with:
    raise UserError(
      f"the tokenizer {where} ({tokenizer.fingerprint[:10]}) does not fit the"
      f" checkpoint, which was trained with {trained_with[:10]}; use that"
      " run's own tokenizer"
    )
