"""The main job: from a config to a trained model, its numbers and samples."""

import contextlib
import dataclasses
import pathlib
import time
import zlib
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console

from ..data.pipeline import heldout_batches, train_batches
from ..data.prepare import Prepared, prepare
from ..errors import UserError
from ..infer.sampling import Sampling, generate
from .accounting import accounts
from .checkpoint import Checkpoints, check_space
from .config import Config
from .evaluate import HostBatch, evaluate, to_device
from .guard import LossWatch, StopSignal
from .logs import Logs, plot_loss
from .optimizers import eval_params
from .peak import machine_peak
from .report import Bar, make_console, plan_table
from .setup import Setup, fit_vocab, make_setup, provisional_setup
from .state import TrainState
from .step import Metrics, batch_shardings, make_eval_step, make_train_step
from .warm_start import warm_start
from .workdir import claim, default_workdir


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


def is_ready(array: Any) -> bool:
  """Whether the device has computed it."""
  return array.is_ready()


class Loop:
  """One run: owns the workdir, the state and the data's place."""

  def __init__(
    self,
    setup: Setup,
    workdir: pathlib.Path,
    prepared: Prepared,
    console: Console,
  ):
    self.console = console
    self.workdir = workdir
    self.prepared = prepared
    self.setup = setup
    self.config = config = setup.config
    self.shardings = batch_shardings(self.setup.layout)
    check_space(workdir, self.setup.abstract(), config.checkpoint.keep)
    if not (workdir / "tokenizer").is_dir():
      prepared.tokenizer.save(workdir / "tokenizer")
    self.checkpoints = Checkpoints(workdir, config.checkpoint)
    shard = {"shard": jax.process_index(), "n_shards": jax.process_count()}
    self._shard = shard
    self.batches = train_batches(prepared, config.data, **shard)
    self.state = self._first_state()
    self.step = int(self.state.step)
    self.logs = Logs(workdir, self.step)
    self.watch = LossWatch(workdir, config.log.spike, self._good_checkpoint)
    self.train_step = make_train_step(self.setup)
    self.eval_step = make_eval_step(self.setup)
    self.heldout: dict[str, float] = {}
    self._evaluated: int | None = None
    self._last_saved = max(self.checkpoints.steps(), default=None)

  def warn(self, text: str) -> None:
    self.console.print(f"warning: {text}", style="yellow", markup=False)

  def _first_state(self) -> TrainState:
    restored = self.checkpoints.restore_latest(self.setup.abstract(), self.warn)
    if restored is not None:
      state, info = restored
      self.batches.restore(info["data"])
      self.console.print(f"resuming {self.workdir} at step {int(state.step)}")
      return state
    state = self.setup.init()
    if self.config.init_from:
      params = warm_start(self.setup, self.prepared.tokenizer)
      opt_state = jax.jit(
        self.setup.optimizer.init, out_shardings=self.setup.shardings.opt_state
      )(params)
      state = dataclasses.replace(state, params=params, opt_state=opt_state)
      self.console.print(
        f"starting from the weights of {self.config.init_from}"
      )
    return state

  def run(self) -> Result:
    config, tokens = self.config, 0
    shape = accounts(self.setup)
    peak = machine_peak(config.model.compute_dtype)
    rows = config.data.batch_size * config.data.seq_len
    pending: tuple[int, Metrics, HostBatch] | None = None
    waited, stalls, since = 0.0, 0, self.step
    clock = time.perf_counter()

    with StopSignal() as stop, Bar(self.console, config, self.step) as bar:

      def read(done: tuple[int, Metrics, HostBatch]) -> None:
        """Waits for an update's metrics and passes them on."""
        nonlocal tokens, waited, stalls, since, clock
        step, device_metrics, batch = done
        metrics = {k: float(v) for k, v in device_metrics.items()}
        warning = self.watch.check(
          step, metrics["loss"], metrics["grad_norm"], batch
        )
        if warning:
          self.warn(warning)
        tokens += int(metrics["weight"])
        if step % config.log.every and step != config.steps:
          return
        now = time.perf_counter()
        seconds, steps = now - clock, step - since
        speed = steps * rows / seconds
        fraction = speed * shape.train_flops / peak
        self.logs.write(
          step,
          metrics
          | {
            "tokens": tokens,
            "tokens_per_s": speed,
            "peak_fraction": fraction,
            "input_wait_s": waited / steps,
            "input_stalls": stalls,
            "batch": f"{zlib.crc32(batch['row'].tobytes()):08x}",
          },
        )
        bar.update(step, self.watch.mean, speed, fraction)
        waited, stalls, since, clock = 0.0, 0, step, now

      while self.step < config.steps and not stop.received:
        start = time.perf_counter()
        batch = next(self.batches)
        on_device = to_device(batch, self.shardings)
        waited += time.perf_counter() - start
        # With the last update done already, the device has been waiting.
        stalls += pending is not None and is_ready(pending[1]["loss"])
        self.state, metrics = self.train_step(self.state, on_device)
        self.step += 1
        if pending is not None:
          read(pending)
        pending = (self.step, metrics, batch)
        if self._due(config.eval.every) or self._due(config.checkpoint.every):
          # Nothing unchecked is evaluated or saved.
          read(pending)
          pending = None
          if self._due(config.eval.every):
            self.evaluate()
          if self._due(config.checkpoint.every):
            self.save()
          clock, since = time.perf_counter(), self.step
      if pending is not None:
        read(pending)
    if stop.received and self.step < config.steps:
      self.save()
      return Result(self.workdir, self.step, self.heldout, stop.received)
    self.evaluate()
    self.save()
    return Result(self.workdir, self.step, self.heldout)

  def _due(self, every: int) -> bool:
    return (
      bool(every) and self.step % every == 0 and (self.step < self.config.steps)
    )

  def evaluate(self) -> None:
    batches = heldout_batches(self.prepared, self.config.data, **self._shard)
    self.heldout = evaluate(
      self.eval_step,
      self.state,
      batches,
      self.shardings,
      self.prepared.heldout_bytes,
    )
    self._evaluated = self.step
    self.logs.write(
      self.step, {f"heldout/{k}": v for k, v in self.heldout.items()}
    )

  def save(self) -> None:
    """Saves the state with the data's place; the best one by its metric."""
    if self._last_saved == self.step:
      return
    info = {"data": self.batches.state(), "hash": self.config.hash}
    metrics = self.heldout if self._evaluated == self.step else None
    self.checkpoints.save(self.step, self.state, info, metrics)
    self._last_saved = self.step

  def _good_checkpoint(self) -> int | None:
    """The last saved step, once it is on disk."""
    self.checkpoints.wait()
    return self._last_saved

  def close(self) -> None:
    self.checkpoints.wait()
    self.checkpoints.close()
    self.logs.close()

  def finish(self) -> None:
    """Draws the figure, prints the comparison and continues the prompts."""
    references = {
      "gzip -9": self.prepared.gzip_bits_per_byte,
      "xz -9": self.prepared.xz_bits_per_byte,
    }
    plot_loss(self.workdir, self.workdir.name, references)
    out = self.console
    out.print()
    out.print(f"held-out bits per byte ({self.prepared.heldout_bytes:,} bytes)")
    bits = {"this model": self.heldout["bits_per_byte"], **references}
    for name, value in bits.items():
      out.print(f"  {name:<12} {value:.3f}")
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
) -> Result:
  """Trains, or goes on where the workdir's run stopped.

  Args:
    workdir: default `runs/<name>-<hash>`.
    name: of the config.

  Raises:
    UserError: before any array is made, where the config can't work.
    Diverged: the loss is not finite.
  """
  console = make_console()
  if workdir is None:
    workdir = default_workdir(config, name)
  workdir = pathlib.Path(workdir).expanduser()
  provisional_setup(config)
  prepared = prepare(config.data, progress=config.log.progress)
  fitted = fit_vocab(config, prepared.tokenizer.vocab_size)
  facts = {
    "data_fingerprint": prepared.fingerprint,
    "tokenizer": prepared.tokenizer.fingerprint,
    "vocab_size": fitted.model.vocab_size,
  }
  setup = make_setup(fitted)
  claim(workdir, config, facts, console.print)
  loop = Loop(setup, workdir, prepared, console)
  with contextlib.closing(loop):
    console.print(plan_table(loop.setup, accounts(loop.setup), name))
    result = loop.run()
  if result.stopped:
    console.print(
      f"{result.stopped}: saved step {result.step} in {workdir}; run the same"
      " command again to go on"
    )
  else:
    loop.finish()
    console.print(f"\nall of it is in {workdir}")
  return result
