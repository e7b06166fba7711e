"""One run of a loop: its place in the data, its log and its evidence."""

import math
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from ..data.pipeline import train_batches
from ..data.prepare import Prepared
from .accounting import Accounts
from .config import Config
from .detail import Detail, by_layer
from .evaluate import HostBatch
from .events import Events, now
from .guard import Diverged, LossWatch
from .logs import Logs, read_metrics
from .meter import Meter
from .noise import NoiseScale
from .weights_and_biases import WandB
from .workdir import keep_tokenizer


class Lane:
  """What a run of a loop has for itself; `begin` opens its log.

  Attributes:
    config: with the vocabulary's size.
    batches: the data, in this run's order.
    heldout: of the last evaluation, which was at the step `evaluated`.
    diverged: why it ended before the others, if it did.
    meter: its own tokens and speed. Of runs in one program each has its share:
      as many updates, and so the whole's tokens/s divided by their number.
  """

  meter: Meter

  def __init__(
    self,
    config: Config,
    workdir: pathlib.Path,
    prepared: Prepared,
    console: Console,
  ):
    self.config = config
    self.workdir = workdir
    self.console = console
    self.events = Events(workdir)
    keep_tokenizer(workdir, prepared.tokenizer)
    self.batches = train_batches(prepared, config.data)
    self.heldout: dict[str, float] = {}
    self.evaluated: int | None = None
    self.diverged: Diverged | None = None
    self._best = math.inf
    self._logs: Logs | None = None

  def warn(self, step: int, text: str) -> None:
    """Says it, and keeps it with the run's events."""
    self.events.add("warning", step, text=text)
    self.console.print(f"warning: {text}", style="yellow", markup=False)

  def begin(
    self,
    step: int,
    info: Mapping[str, Any],
    accounts: Accounts,
    good_checkpoint: Callable[[], int | None],
  ) -> None:
    """Opens the log at the step to go on from.

    Args:
      info: as by `info`; of a new run its tokens alone.
      good_checkpoint: see `LossWatch`.
    """
    if "data" in info:
      self.batches.restore(info["data"])
    if text := info.get("diverged"):
      self.diverged = Diverged(text)
    config = self.config
    self._find_evaluations(step)
    self.meter = Meter(config, accounts, step, info["tokens"])
    more = [WandB(self.workdir, config.log)] if config.log.wandb else []
    for sink in more:
      self.console.print(sink.where, markup=False)
    self._logs = Logs(self.workdir, step, more)
    self.watch = LossWatch(
      self.workdir,
      config.log.spike,
      good_checkpoint,
      config.opt.loss_scale_min,
    )
    self.noise = NoiseScale(info.get("noise"))

  @property
  def logs(self) -> Logs:
    assert self._logs is not None, "begin() comes first"
    return self._logs

  def _find_evaluations(self, step: int) -> None:
    """What the log has of evaluations up to this state, and of it."""
    prefix = "heldout/"
    for line in read_metrics(self.workdir):
      if line["step"] > step or f"{prefix}loss" not in line:
        continue
      heldout = {
        # The log has null for what is not finite.
        k.removeprefix(prefix): math.nan if v is None else v
        for k, v in line.items()
        if k.startswith(prefix)
      }
      self._is_best(heldout)
      if line["step"] == step:
        self.heldout, self.evaluated = heldout, step

  def read(
    self,
    step: int,
    values: Mapping[str, Any],
    batch: HostBatch,
    detail: Detail | None,
  ) -> dict[str, float] | None:
    """Checks an update's metrics and passes them on.

    Returns:
      What was logged, with the running mean of the loss; None where it was not
      yet time for it.

    Raises:
      Diverged: they are not finite.
    """
    metrics: dict[str, Any] = {k: float(value) for k, value in values.items()}
    loss, norm = metrics["loss"], metrics["grad_norm"]
    scale, skipped = metrics.get("loss_scale"), metrics.pop("overflow", 0)
    if warning := self.watch.check(
      step, loss, norm, batch, scale, bool(skipped)
    ):
      self.warn(step, warning)
    if self.config.log.noise_scale:
      self.noise.update(metrics)
    if detail is not None:
      self.logs.write_detail(step, by_layer(self.config.model, detail))
    self.meter.tokens += int(metrics["weight"])
    if step % self.config.log.every and step != self.config.steps:
      return None
    metrics |= self.meter.rates(step)
    rows = f"{zlib.crc32(batch['row'].tobytes()):08x}"
    self.logs.write(step, {**metrics, "batch": rows, "time": now()})
    return metrics | {"mean": self.watch.mean}

  def evaluation(self, step: int, heldout: dict[str, float]) -> bool:
    """Notes an evaluation; returns whether it is the best yet."""
    self.heldout, self.evaluated = heldout, step
    self.logs.write(step, {f"heldout/{k}": v for k, v in heldout.items()})
    return self._is_best(heldout)

  def _is_best(self, heldout: Mapping[str, float]) -> bool:
    """Whether it is the best yet, which is then remembered; NaN never is."""
    value = heldout[self.config.checkpoint.best]
    if better := value < self._best:
      self._best = value
    return better

  def info(self) -> dict[str, Any]:
    """What a checkpoint keeps beside the state, to `begin` with."""
    info = {
      "data": self.batches.state(),
      "tokens": self.meter.tokens,
      "noise": self.noise.state(),
      "hash": self.config.hash,
    }
    return info | ({"diverged": str(self.diverged)} if self.diverged else {})

  def close(self) -> None:
    if self._logs is not None:
      self._logs.close()
    self.batches.close()
