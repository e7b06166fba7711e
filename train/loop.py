"""The main job: from a config to a trained model, its numbers and samples."""

import contextlib
import dataclasses
import math
import pathlib
import time
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console

from ..data.pipeline import train_batches
from ..data.prepare import Prepared, prepare
from ..errors import UserError
from ..infer.sampling import Sampling, generate
from .accounting import accounts
from .checkpoint import Checkpoints, check_space
from .config import Config
from .detail import Detail, by_layer, make_detail_step
from .evaluate import HostBatch, evaluate, to_device
from .events import Events, now
from .figures import plot_detail, plot_loss
from .guard import LossWatch, StopSignal
from .logs import Logs, read_metrics
from .meter import Meter, is_ready
from .noise import NoiseScale
from .optimizers import eval_params
from .report import Bar, make_console, plan_table
from .setup import Setup, fit_vocab, make_setup, provisional_setup
from .state import TrainState
from .step import Metrics, batch_shardings, make_eval_step, make_train_step
from .trace import NOTHING, Profile
from .warm_start import warm_start
from .weights_and_biases import WandB, find_wandb
from .workdir import claim, default_workdir, keep_tokenizer


@dataclasses.dataclass(frozen=True)
class Result:
  """What a finished run came to; `stopped` names the signal that ended it."""

  workdir: pathlib.Path
  step: int
  heldout: Mapping[str, float]
  stopped: str | None = None


def plan(config: Config, name: str, console: Console) -> Setup:
  """Prints what a run would cost; reads no data and makes no array."""
  setup = provisional_setup(config)
  console.print(plan_table(setup, accounts(setup), name))
  return setup


class Loop:
  """One run: owns the workdir, the state and the data's place."""

  def __init__(
    self,
    setup: Setup,
    workdir: pathlib.Path,
    prepared: Prepared,
    console: Console,
    profile: Profile,
  ):
    self.console = console
    self.profile = profile
    self.events = Events(workdir)
    self.workdir = workdir
    self.prepared = prepared
    self.setup = setup
    self.config = config = setup.config
    self.shardings = batch_shardings(self.setup.layout)
    check_space(workdir, self.setup.abstract(), config.checkpoint.keep)
    keep_tokenizer(workdir, prepared.tokenizer)
    self.checkpoints = Checkpoints(workdir, config.checkpoint)
    self.batches = train_batches(prepared, config.data)
    self.step = 0  # of a warning about the checkpoints
    self.state, info = self._first_state()
    self.step = int(self.state.step)
    if warning := profile.check(self.step):
      self.warn(warning)
    self.heldout, self._evaluated = self._heldout_here()
    self._best = math.inf
    self._last_saved = max(self.checkpoints.steps(), default=None)
    self.accounts = accounts(setup)
    self.meter = Meter(config, self.accounts, self.step, info["tokens"])
    more = [WandB(workdir, config.log)] if config.log.wandb else []
    for sink in more:
      console.print(sink.where, markup=False)
    self.logs = Logs(workdir, self.step, more)
    self.watch = LossWatch(
      workdir,
      config.log.spike,
      self._good_checkpoint,
      config.opt.loss_scale_min,
    )
    self.noise = NoiseScale(info.get("noise"))
    self.train_step = make_train_step(self.setup)
    self.detail_step = make_detail_step(self.setup)
    self.eval_step = make_eval_step(self.setup)

  def warn(self, text: str) -> None:
    """Says it, and keeps it with the run's events."""
    self.events.add("warning", self.step, text=text)
    self.console.print(f"warning: {text}", style="yellow", markup=False)

  def _first_state(self) -> tuple[TrainState, Mapping[str, Any]]:
    """The state to go on from, and what was saved with it, as by `save`."""
    restored = self.checkpoints.restore_latest(self.setup.abstract(), self.warn)
    if restored is not None:
      state, info = restored
      self.batches.restore(info["data"])
      self.console.print(f"resuming {self.workdir} at step {int(state.step)}")
      return state, info
    state = self.setup.init()
    if source := self.config.init_from:
      params = warm_start(self.setup, self.prepared.tokenizer)
      opt_state = self.setup.init_opt_state(params)
      state = dataclasses.replace(state, params=params, opt_state=opt_state)
      self.console.print(f"starting from the weights of {source}")
    return state, {"tokens": 0}

  def _heldout_here(self) -> tuple[dict[str, float], int | None]:
    """What the log has of an evaluation of this very state."""
    prefix = "heldout/"
    for line in read_metrics(self.workdir):
      if line["step"] == self.step and f"{prefix}loss" in line:
        values = {k: v for k, v in line.items() if k.startswith(prefix)}
        return {k.removeprefix(prefix): v for k, v in values.items()}, self.step
    return {}, None

  def run(self, stop: StopSignal) -> Result:
    """Trains to the end, or until `stop` has received a signal."""
    config = self.config
    pending: tuple[int, Metrics, HostBatch, Detail | None] | None = None
    with Bar(self.console, config, self.step) as bar:
      while self.step < config.steps and not stop.received:
        with self.profile.update(self.step + 1):
          metrics, batch, detail = self._update(pending and pending[1])
        self.profile.after(self.step, metrics)
        if pending is not None:
          self._read(*pending, bar)
        pending = (self.step, metrics, batch, detail)
        due = [self._due(config.eval.every), self._due(config.checkpoint.every)]
        if any(due):
          # Nothing unchecked is evaluated or saved.
          self._read(*pending, bar)
          pending = None
          better = due[0] and self.evaluate()
          if due[1] or better:
            self.save()
          self.meter.restart(self.step)
      if pending is not None:
        self._read(*pending, bar)
    if self.step < config.steps:
      self.save()
      return Result(self.workdir, self.step, self.heldout, stop.received)
    if self._evaluated != self.step:
      self.evaluate()
    self.save()
    return Result(self.workdir, self.step, self.heldout)

  def _update(
    self, before: Metrics | None
  ) -> tuple[Metrics, HostBatch, Detail | None]:
    """Sends the next update to the device, on which `before` may still run."""
    start = time.perf_counter()
    batch = next(self.batches)
    on_device = to_device(batch, self.shardings)
    self.meter.waited += time.perf_counter() - start
    if before is not None:
      # With the last update done already, the device has been waiting.
      self.meter.stalls += is_ready(before["loss"])
    detail, every = None, self.config.log.detail
    if every and (self.step + 1) % every == 0:
      detail = self.detail_step(self.state, on_device)
    self.state, metrics = self.train_step(self.state, on_device)
    self.step += 1
    return metrics, batch, detail

  def _read(
    self,
    step: int,
    on_device: Metrics,
    batch: HostBatch,
    detail: Detail | None,
    bar: Bar,
  ) -> None:
    """Waits for an update's metrics, checks them and passes them on."""
    metrics = {name: float(value) for name, value in on_device.items()}
    loss, norm = metrics["loss"], metrics["grad_norm"]
    scale, skipped = metrics.get("loss_scale"), metrics.pop("overflow", 0)
    if warning := self.watch.check(
      step, loss, norm, batch, scale, bool(skipped)
    ):
      self.warn(warning)
    if self.config.log.noise_scale:
      self.noise.update(metrics)
    if detail is not None:
      self.logs.write_detail(step, by_layer(self.config.model, detail))
    self.meter.tokens += int(metrics["weight"])
    if step % self.config.log.every and step != self.config.steps:
      return
    metrics |= self.meter.rates(step)
    rows = f"{zlib.crc32(batch['row'].tobytes()):08x}"
    self.logs.write(step, {**metrics, "batch": rows, "time": now()})
    bar.update(
      step, self.watch.mean, metrics["tokens_per_s"], metrics["peak_fraction"]
    )

  def _due(self, every: int) -> bool:
    return (
      bool(every) and self.step % every == 0 and (self.step < self.config.steps)
    )

  def evaluate(self) -> bool:
    """Evaluates on the held-out text; returns whether it is the best yet."""
    self.heldout = evaluate(
      self.eval_step,
      self.state,
      self.prepared,
      self.config.data,
      self.shardings,
    )
    self._evaluated = self.step
    self.logs.write(
      self.step, {f"heldout/{k}": v for k, v in self.heldout.items()}
    )
    value = self.heldout[self.config.checkpoint.best]
    better, self._best = value < self._best, min(value, self._best)
    return better

  def save(self) -> None:
    """Saves the state with the data's place and, if known, its metrics."""
    if self._last_saved == self.step:
      return
    info = {
      "data": self.batches.state(),
      "tokens": self.meter.tokens,
      "noise": self.noise.state(),
      "hash": self.config.hash,
    }
    metrics = self.heldout if self._evaluated == self.step else None
    self.checkpoints.save(self.step, self.state, info, metrics)
    self.logs.flush()
    self._last_saved = self.step

  def _good_checkpoint(self) -> int | None:
    """The last saved step, once it is on disk."""
    self.checkpoints.wait()
    return self._last_saved

  def close(self) -> None:
    self.profile.close()
    self.checkpoints.wait()
    self.checkpoints.close()
    self.logs.close()
    self.batches.close()

  def finish(self) -> None:
    """Draws the figure, prints the comparison and continues the prompts."""
    references = {
      "gzip -9": self.prepared.gzip_bits_per_byte,
      "xz -9": self.prepared.xz_bits_per_byte,
    }
    plot_loss(self.workdir, self.workdir.name, references)
    plot_detail(self.workdir, self.workdir.name)
    out = self.console
    out.print()
    out.print(f"held-out bits per byte ({self.prepared.heldout_bytes:,} bytes)")
    bits = {"this model": self.heldout["bits_per_byte"]}
    if len(self.prepared.parts) > 1:
      bits |= {
        f"on {part.name}": self.heldout[f"{part.name}/bits_per_byte"]
        for part in self.prepared.parts
      }
    for name, value in {**bits, **references}.items():
      out.print(f"  {name:<12} {value:.3f}", markup=False)
    config = self.config
    params = eval_params(config.opt, self.state.opt_state, self.state.params)
    sampling = Sampling(
      temperature=config.eval.temperature, max_tokens=config.eval.sample_tokens
    )
    try:
      samples = generate(
        config.model,
        params,
        self.prepared.tokenizer,
        config.eval.prompts,
        sampling,
      )
    except UserError as error:
      out.print(f"no samples: {error}", markup=False)
      return
    for prompt, sample in zip(config.eval.prompts, samples, strict=True):
      out.rule(f"{prompt!r} goes on", align="left")
      out.print(prompt + sample.text, markup=False)


def train(
  config: Config,
  workdir: str | pathlib.Path | None = None,
  *,
  name: str = "run",
  profile: tuple[int, int] = NOTHING,
) -> Result:
  """Trains, or goes on where the workdir's run stopped.

  Args:
    workdir: default `runs/<name>-<hash>`.
    name: of the config.
    profile: first and last update to trace into WORKDIR/profile.

  Raises:
    UserError: before any array is made, where the config can't work.
    Diverged: loss or gradient is not finite.
  """
  console = make_console()
  if workdir is None:
    workdir = default_workdir(config, name)
  workdir = pathlib.Path(workdir).expanduser()
  if jax.process_count() > 1:
    raise UserError(
      f"jax runs {jax.process_count()} processes; ablax train is for one host"
      " with any number of devices so far"
    )
  traced = Profile(workdir / "profile", profile)
  if config.log.wandb:
    find_wandb(config.log.wandb)
  provisional_setup(config)
  prepared = prepare(config.data, progress=config.log.progress)
  prepared.check_epochs(config.steps * config.data.batch_size)
  fitted = fit_vocab(config, prepared.tokenizer.vocab_size)
  facts = {
    "data_fingerprint": prepared.fingerprint,
    "tokenizer": prepared.tokenizer.fingerprint,
    "vocab_size": fitted.model.vocab_size,
  }
  setup = make_setup(fitted)
  claim(workdir, config, facts, console.print)
  loop = Loop(setup, workdir, prepared, console, traced)
  facts = {
    "steps": config.steps,
    "parameters": loop.accounts.params,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
  }
  told = loop.events.told(lambda: loop.step, **facts)
  with StopSignal() as stop, contextlib.closing(loop), told:
    console.print(plan_table(setup, loop.accounts, name))
    result = loop.run(stop)
    if result.stopped:
      loop.events.add("stopped", loop.step, text=result.stopped)
    else:
      loop.events.add("finished", loop.step)
  if how_to_look := traced.how_to_look():
    console.print(how_to_look, markup=False)
  if result.stopped:
    console.print(
      f"{result.stopped}: saved step {result.step} in {workdir}; run the same"
      " command again to go on"
    )
  else:
    loop.finish()
    console.print(f"\nall of it is in {workdir}")
  return result
