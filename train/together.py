"""Several seeds of one config in one program, written out as ordinary runs.

    FOLDER/runs.json           hashes of their configs, in order
    FOLDER/checkpoints/STEP/   all runs in one state, while they train
    WORKDIR/                   of each run: what `train` leaves there

A workdir has its run's log as it grows, and from the end on a checkpoint of its
own, of the last state alone (`train` keeps the best one too, and prints
samples). FOLDER can then be deleted.
"""

import contextlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from rich.console import Console

from ..data.prepare import Prepared
from ..errors import UserError
from .checkpoint import Checkpoints, Damaged
from .config import Config
from .ending import compare, draw
from .guard import Diverged, StopSignal
from .lane import Lane
from .loop import Loop, Result, ready, start_facts
from .program import Program
from .report import make_console, plan_table
from .setup import fit_vocab, make_setup
from .state import TrainState
from .trace import Profile
from .workdir import claim, differences


def check_alike(configs: Sequence[Config]) -> None:
  """Raises UserError unless the configs differ in their seeds alone."""
  if not configs:
    raise UserError("no config to train; give one for each seed")
  first, *others = (config.as_dict() for config in configs)
  for other in others:
    found = [
      line
      for line in differences(first, other)
      if line.split(" ")[0] not in ("seed", "data.seed")
    ]
    if found:
      raise UserError(
        f"runs in one program differ in {'; '.join(found[:4])}; only seed and"
        " data.seed may differ: train these one after another"
      )
  seeds = [(config.seed, config.data.seed) for config in configs]
  for seed, data_seed in seeds:
    if seeds.count((seed, data_seed)) > 1:
      raise UserError(
        f"seed={seed} with data.seed={data_seed} comes twice; they would be"
        " the same run"
      )
  if wandb := configs[0].log.wandb:
    raise UserError(
      f"log.wandb={wandb!r} follows one run in a process, and {len(configs)}"
      " train in one program; set log.wandb='', or train one after another"
    )


def _check_folders(
  configs: Sequence[Config],
  workdirs: Sequence[pathlib.Path],
  folder: pathlib.Path,
) -> None:
  """Raises UserError where a folder holds other runs, or comes twice."""
  if len({path.absolute() for path in (*workdirs, folder)}) <= len(workdirs):
    raise UserError(
      f"the workdirs {', '.join(map(str, workdirs))} and the folder {folder}"
      " must all differ"
    )
  file, hashes = folder / "runs.json", [config.hash for config in configs]
  if file.is_file():
    held = _hashes(file)
    if held != hashes:
      raise UserError(
        f"{folder} holds {len(held)} runs in one program ({', '.join(held)}),"
        f" and these are {', '.join(hashes)}; give the same configs in the same"
        " order, or choose another folder"
      )
  if any((folder / "checkpoints").glob("[0-9]*")):
    return
  for workdir in workdirs:
    # It would begin again from nothing, and take the log back.
    if any((workdir / "checkpoints").glob("[0-9]*")):
      raise UserError(
        f"{workdir} holds a run with checkpoints of its own, and {folder} has"
        " none to go on from; go on with ablax train, or choose another"
        " workdir"
      )


def _hashes(file: pathlib.Path) -> list[str]:
  try:
    held = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(held, list) and all(isinstance(one, str) for one in held):
      return held
  except ValueError:
    pass
  raise UserError(
    f"{file} is not a list of hashes; remove it if these runs are the folder's,"
    " or choose another folder"
  )


def train_together(
  configs: Sequence[Config],
  workdirs: Sequence[pathlib.Path],
  folder: pathlib.Path,
  *,
  name: str = "run",
  prepared: Prepared | None = None,
  console: Console | None = None,
) -> list[Result | Diverged]:
  """Trains runs that differ in their seeds, or goes on where they stopped.

  Each run's tokens_per_s is its share: that of all divided by their number.
  One that diverges ends there, and the others go on.

  Args:
    workdirs: of each run.
    folder: holds the checkpoints of all.
    prepared: their data, where the caller has it already.

  Returns:
    In the order of the configs what came of each run.

  Raises:
    UserError: the configs differ in more, or can't work.
  """
  console = console or make_console()
  check_alike(configs)
  workdirs = [pathlib.Path(path).expanduser() for path in workdirs]
  folder = pathlib.Path(folder).expanduser()
  _check_folders(configs, workdirs, folder)
  fitted, prepared, facts = ready(configs[0], prepared)
  program = Program.of_several(make_setup(fitted), len(configs))
  lanes = []
  for config, workdir in zip(configs, workdirs, strict=True):
    claim(workdir, config, facts, console.print)
    config = fit_vocab(config, prepared.tokenizer.vocab_size)
    lanes.append(Lane(config, workdir, prepared, console))
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / "runs.tmp"
  partial.write_text(json.dumps([config.hash for config in configs]))
  partial.replace(folder / "runs.json")
  loop = Loop(
    program, lanes, folder, prepared, console, Profile(folder), _good_checkpoint
  )
  seeds = [config.seed for config in configs]
  about = start_facts(loop) | {"together": seeds}
  stopped = None
  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(StopSignal())
    stack.enter_context(contextlib.closing(loop))
    for lane in loop.running:
      told = lane.events.told(lambda: loop.step, **about)
      stack.enter_context(told)
    title = f"{name}, each of {len(seeds)} seeds in one program"
    console.print(plan_table(loop.setup, loop.accounts, title))
    # That the last of them diverged is in its lane.
    with contextlib.suppress(Diverged):
      stopped = loop.run(stop)
    loop.saved()  # before it is said to be
    for lane in loop.running:
      if stopped:
        lane.events.add("stopped", loop.step, text=stopped)
    if not stopped:
      _write_all_out(loop)
  if stopped:
    console.print(
      f"{stopped}: saved step {loop.step} of {len(seeds)} runs in {folder}; run"
      " the same command again to go on"
    )
  elif not loop.running:
    console.print(f"all {len(seeds)} runs diverged; see their bad folders")
  else:
    for lane in loop.running:
      draw(lane.workdir, prepared, configs[0].data)
    ended = {f"seed {lane.config.seed}": lane.heldout for lane in loop.running}
    if ended:
      compare(ended, prepared, configs[0].data, console)
  return [
    lane.diverged
    or Result(lane.workdir, loop.step, lane.heldout, loop.accounts, stopped)
    for lane in lanes
  ]


def _write_all_out(loop: Loop) -> None:
  """Leaves each run finished in its workdir."""
  # By way of the host, so that the device never holds them twice.
  states = loop.program.split(jax.device_get(loop.state))
  for lane, state in zip(loop.lanes, states, strict=True):
    if lane.diverged is None:
      _write_out(loop, lane, loop.step, state, lane.info(), lane.heldout)
      lane.events.add("finished", loop.step)


def _write_out(
  loop: Loop,
  lane: Lane,
  step: int,
  state: TrainState,
  info: dict[str, Any],
  heldout: dict[str, float] | None = None,
) -> None:
  """Saves one run's state in its workdir, as an ordinary run's."""
  checkpoints = Checkpoints(lane.workdir, lane.config.checkpoint)
  with contextlib.closing(checkpoints):
    if step not in checkpoints.steps():
      state = jax.device_put(state, loop.setup.shardings)
      checkpoints.save(step, state, info, heldout)
      checkpoints.wait()


def _good_checkpoint(loop: Loop, lane: Lane) -> int | None:
  """Writes a run's part of the last checkpoint out, as evidence."""
  step, i = loop.saved(), list(loop.lanes).index(lane)
  if step is None:
    return None
  # Into the host's memory: on the device the runs may fill it.
  host = jax.tree.map(
    lambda a: np.empty(a.shape, a.dtype), loop.program.abstract
  )
  try:
    states, info = loop.checkpoints.restore(step, host)
  except Damaged as damage:
    lane.warn(loop.step, f"damaged checkpoint {damage}")
    return None
  state = loop.program.split(states)[i]
  _write_out(loop, lane, step, state, info["lanes"][i])
  return step
