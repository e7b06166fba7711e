"""The main job: from a config to a trained model, its numbers and samples."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from rich.console import Console

from ..data.prepare import Prepared, prepare
from ..errors import UserError
from .accounting import Accounts, accounts
from .checkpoint import Checkpoints, check_space
from .config import Config
from .detail import Detail
from .ending import compare, draw, sample
from .evaluate import HostBatch, evaluate, to_device
from .guard import Diverged, StopSignal
from .lane import Lane
from .meter import is_ready
from .optimizers import eval_params
from .program import Program
from .report import Bar, make_console, plan_table
from .setup import Setup, fit_vocab, make_setup, provisional_setup
from .state import TrainState
from .step import Metrics
from .trace import NOTHING, Profile
from .warm_start import warm_start
from .weights_and_biases import find_wandb
from .workdir import claim, default_workdir


@dataclasses.dataclass(frozen=True)
class Result:
  """What a finished run came to; `stopped` names the signal that ended it."""

  workdir: pathlib.Path
  step: int
  heldout: Mapping[str, float]
  accounts: Accounts
  stopped: str | None = None


def plan(config: Config, name: str, console: Console) -> Setup:
  """Prints what a run would cost; reads no data and makes no array."""
  setup = provisional_setup(config)
  console.print(plan_table(setup, accounts(setup), name))
  return setup


# An update that is on its way: its step, and of each lane the batch.
Pending = tuple[int, Metrics, Sequence[HostBatch], Detail | None]


class Loop:
  """Updates in turn, of one run or of several that train in one program.

  It owns the state and its checkpoints in `folder`. What each run has for
  itself is in its lane: an ordinary run is a loop of one lane, in its workdir.

  Args:
    good_checkpoint: of a lane: its last good step, once its workdir has that.
  """

  def __init__(
    self,
    program: Program,
    lanes: Sequence[Lane],
    folder: pathlib.Path,
    prepared: Prepared,
    console: Console,
    profile: Profile,
    good_checkpoint: Callable[["Loop", Lane], int | None] | None = None,
  ):
    self.console = console
    self.profile = profile
    self.program = program
    self.lanes = lanes
    self.folder = folder
    self.prepared = prepared
    self.setup = program.setup
    self.config = config = self.setup.config  # but for the seeds of the lanes
    check_space(folder, program.abstract, config.checkpoint.keep)
    self.checkpoints = Checkpoints(folder, config.checkpoint)
    self.step = 0  # of a warning about the checkpoints
    self.state, infos = self._first_state()
    self.step = int(self.state.step)
    if warning := profile.check(self.step):
      self.warn(warning)
    self.last_saved = max(self.checkpoints.steps(), default=None)
    self.accounts = accounts(self.setup)
    for lane, info in zip(lanes, infos, strict=True):
      good = self.saved
      if good_checkpoint is not None:
        good = functools.partial(good_checkpoint, self, lane)
      lane.begin(self.step, info, self.accounts, good)

  def warn(self, text: str) -> None:
    """Says it, and keeps it with the events of each run."""
    for lane in self.lanes:
      lane.events.add("warning", self.step, text=text)
    self.console.print(f"warning: {text}", style="yellow", markup=False)

  @property
  def running(self) -> list[Lane]:
    return [lane for lane in self.lanes if lane.diverged is None]

  def _first_state(self) -> tuple[TrainState, Sequence[Mapping[str, Any]]]:
    """The state to go on from, and what was saved with it for each lane."""
    restored = self.checkpoints.restore_latest(self.program.abstract, self.warn)
    if restored is not None:
      state, info = restored
      self.console.print(f"resuming {self.folder} at step {int(state.step)}")
      return state, info.get("lanes", [info])
    state = self.program.first(map(self._new_state, self.lanes))
    if source := self.config.init_from:
      self.console.print(f"starting from the weights of {source}")
    return state, [{"tokens": 0}] * len(self.lanes)

  def _new_state(self, lane: Lane) -> TrainState:
    """The very bits with which the lane's run would begin alone."""
    setup = dataclasses.replace(self.setup, config=lane.config)
    state = setup.init()
    if lane.config.init_from:
      params = warm_start(setup, self.prepared.tokenizer, state.params)
      opt_state = setup.init_opt_state(params)
      state = dataclasses.replace(state, params=params, opt_state=opt_state)
    return state

  def run(self, stop: StopSignal) -> str | None:
    """Trains to the end, or until `stop` has received a signal: that one."""
    config = self.config
    pending: Pending | None = None
    with Bar(self.console, config, self.step, len(self.lanes)) as bar:
      while self.step < config.steps and not stop.received:
        with self.profile.update(self.step + 1):
          metrics, batches, detail = self._update(pending and pending[1])
        self.profile.after(self.step, metrics)
        if pending is not None:
          self._read(*pending, bar)
        pending = (self.step, metrics, batches, detail)
        due = [self._due(config.eval.every), self._due(config.checkpoint.every)]
        if any(due):
          # Nothing unchecked is evaluated or saved.
          self._read(*pending, bar)
          pending = None
          better = due[0] and self.evaluate()
          if due[1] or better:
            self.save()
          for lane in self.lanes:
            lane.meter.restart(self.step)
      if pending is not None:
        self._read(*pending, bar)
    if self.step < config.steps:
      self.save()
      return stop.received
    if any(lane.evaluated != self.step for lane in self.running):
      self.evaluate()
    self.save()
    return None

  def _update(
    self, before: Metrics | None
  ) -> tuple[Metrics, Sequence[HostBatch], Detail | None]:
    """Sends the next update to the device, on which `before` may still run."""
    start = time.perf_counter()
    batches: list[HostBatch] = [next(lane.batches) for lane in self.lanes]
    on_device = to_device(self.program.join(batches), self.program.shardings)
    waited = time.perf_counter() - start
    # With the last update done already, the device has been waiting.
    stalled = before is not None and is_ready(before["loss"])
    for lane in self.lanes:
      lane.meter.waited += waited
      lane.meter.stalls += stalled
    detail, every = None, self.config.log.detail
    if every and (self.step + 1) % every == 0:
      detail = self.program.detail_step(self.state, on_device)
    self.state, metrics = self.program.train_step(self.state, on_device)
    self.step += 1
    return metrics, batches, detail

  def _read(
    self,
    step: int,
    metrics: Metrics,
    batches: Sequence[HostBatch],
    detail: Detail | None,
    bar: Bar,
  ) -> None:
    """Waits for an update's metrics, and gives each lane its own."""
    split = self.program.split
    each = split(jax.device_get(metrics))
    details: list[Detail | None] = [None] * len(each)
    if detail is not None:
      details = split(jax.device_get(detail))
    told = []
    everything = zip(self.lanes, each, batches, details, strict=True)
    for lane, values, batch, look in everything:
      if lane.diverged is not None:
        continue
      try:
        told.append(lane.read(step, values, batch, look))
      except Diverged as error:
        lane.diverged = error
        lane.events.error(self.step, error)
        if self.program.stacked:
          seed = lane.config.seed
          self.console.print(f"seed {seed}: {error}", markup=False)
        if not self.running:
          raise
    logged = [line for line in told if line is not None]
    if logged:

      def total(key):
        return sum(line[key] for line in logged)

      loss = total("mean") / len(logged)
      speed, peak = total("tokens_per_s"), total("peak_fraction")
      bar.update(step, loss, speed, peak, len(logged))

  def _due(self, every: int) -> bool:
    return (
      bool(every) and self.step % every == 0 and (self.step < self.config.steps)
    )

  def evaluate(self) -> bool:
    """Evaluates on the held-out text; returns whether to keep this state.

    The best state of an ordinary run is kept. Runs in one program have theirs
    at different steps, and keep the latest alone.
    """
    each = evaluate(
      self.program.eval_step,
      self.state,
      self.prepared,
      self.config.data,
      self.program.shardings,
      self.program.split,
    )
    better = [
      lane.evaluation(self.step, heldout)
      for lane, heldout in zip(self.lanes, each, strict=True)
      if lane.diverged is None
    ]
    return len(self.lanes) == 1 and better[0]

  def save(self) -> None:
    """Saves the state with the data's place and, if known, its metrics."""
    if self.last_saved == self.step:
      return
    infos = [lane.info() for lane in self.lanes]
    info, metrics = {"lanes": infos}, None
    if not self.program.stacked:
      (info,), (lane,) = infos, self.lanes
      metrics = lane.heldout if lane.evaluated == self.step else None
    self.checkpoints.save(self.step, self.state, info, metrics)
    for lane in self.lanes:
      lane.logs.flush()
    self.last_saved = self.step

  def saved(self) -> int | None:
    """The last saved step, once it is on disk."""
    self.checkpoints.wait()
    return self.last_saved

  def close(self) -> None:
    # Each, whichever of those before it fails: the last one first.
    with contextlib.ExitStack() as stack:
      for lane in self.lanes:
        stack.callback(lane.close)
      stack.callback(self.checkpoints.close)
      stack.callback(self.checkpoints.wait)
      stack.callback(self.profile.close)


def start_facts(loop: Loop) -> dict[str, Any]:
  """What the event that begins a part of a run says of it."""
  return {
    "steps": loop.config.steps,
    "parameters": loop.accounts.params,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }


def ready(
  config: Config, prepared: Prepared | None
) -> tuple[Config, Prepared, dict[str, Any]]:
  """Checks what can be without data; then the config fitted to its data.

  Returns:
    The config with the vocabulary's size, the data, and what a workdir keeps
    of them (see `claim`).
  """
  if jax.process_count() > 1:
    raise UserError(
      f"jax runs {jax.process_count()} processes; ablax train is for one host"
      " with any number of devices so far"
    )
  if config.log.wandb:
    find_wandb(config.log.wandb)
  provisional_setup(config)
  prepared = prepared or prepare(config.data, progress=config.log.progress)
  prepared.check_epochs(config.steps * config.data.batch_size)
  fitted = fit_vocab(config, prepared.tokenizer.vocab_size)
  facts = {
    "data_fingerprint": prepared.fingerprint,
    "tokenizer": prepared.tokenizer.fingerprint,
    "vocab_size": fitted.model.vocab_size,
  }
  return fitted, prepared, facts


def train(
  config: Config,
  workdir: str | pathlib.Path | None = None,
  *,
  name: str = "run",
  profile: tuple[int, int] = NOTHING,
  prepared: Prepared | None = None,
  console: Console | None = None,
) -> Result:
  """Trains, or goes on where the workdir's run stopped.

  Args:
    workdir: default `runs/<name>-<hash>`.
    name: of the config.
    profile: first and last update to trace into WORKDIR/profile.
    prepared: the data of this config, where the caller has it already.
    console: what to print to; default: stdout.

  Raises:
    UserError: before any array is made, where the config can't work.
    Diverged: loss or gradient is not finite.
  """
  console = console or make_console()
  if workdir is None:
    workdir = default_workdir(config, name)
  workdir = pathlib.Path(workdir).expanduser()
  fitted, prepared, facts = ready(config, prepared)
  traced = Profile(workdir / "profile", profile)
  program = Program.of_one(make_setup(fitted))
  claim(workdir, config, facts, console.print)
  lane = Lane(fitted, workdir, prepared, console)
  loop = Loop(program, [lane], workdir, prepared, console, traced)
  told = lane.events.told(lambda: loop.step, **start_facts(loop))
  with StopSignal() as stop, contextlib.closing(loop), told:
    console.print(plan_table(loop.setup, loop.accounts, name))
    stopped = loop.run(stop)
    loop.saved()  # before it is said to be
    if stopped:
      lane.events.add("stopped", loop.step, text=stopped)
    else:
      lane.events.add("finished", loop.step)
  if how_to_look := traced.how_to_look():
    console.print(how_to_look, markup=False)
  if stopped:
    console.print(
      f"{stopped}: saved step {loop.step} in {workdir}; run the same"
      " command again to go on"
    )
  else:
    draw(workdir, prepared, fitted.data)
    compare({"this model": lane.heldout}, prepared, fitted.data, console)
    opt_state, params = loop.state.opt_state, loop.state.params
    params = eval_params(fitted.opt, opt_state, params)
    sample(fitted, params, prepared.tokenizer, console)
    console.print(f"\nall of it is in {workdir}")
  return Result(workdir, loop.step, lane.heldout, loop.accounts, stopped)
