"""Watches a run: signals that ask it to stop, losses that went wrong."""

import math
import os
import pathlib
import shutil
import signal
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class StopSignal:
  """Turns SIGTERM and Ctrl-C into a flag; a second Ctrl-C is immediate."""

  def __init__(self):
    self.received: str | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "StopSignal":
    for number in (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, self._receive)
    return self

  def __exit__(self, *exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _receive(self, number, frame) -> None:
    del frame
    if self.received and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.received = signal.Signals(number).name


class Diverged(Exception):
  """Loss or gradient is no longer finite; the message says what was kept."""


class LossWatch:
  """Keeps the evidence of a loss that is not finite, or that jumps.

  `mean` is the running mean of the loss.

  Args:
    workdir: evidence goes to WORKDIR/bad/STEP: batch.npz, and the last good
      checkpoint (as hard links, where the file system has them).
    spike: nats above the running mean that count as a jump.
    good_checkpoint: gives the last saved step, once it is on disk.
    min_loss_scale: the least that is tried in float16.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    spike: float,
    good_checkpoint: Callable[[], int | None],
    min_loss_scale: float = 1.0,
  ):
    self._workdir = workdir
    self._spike = spike
    self._good_checkpoint = good_checkpoint
    self._min_loss_scale = min_loss_scale
    self.mean = math.nan
    self._seen = 0

  def check(
    self,
    step: int,
    loss: float,
    grad_norm: float,
    batch: Mapping[str, np.ndarray],
    loss_scale: float | None = None,
    skipped: bool = False,
  ) -> str | None:
    """Returns a warning after a jump; raises Diverged at a NaN or infinity.

    Args:
      loss_scale: of float16.
      skipped: the update, since a gradient overflowed in float16: only a scale
        that is used up ends the run.
    """
    finite = math.isfinite(loss) and (skipped or math.isfinite(grad_norm))
    if not finite:
      kept, _ = self._keep(step, batch)
      wider = ""
      if loss_scale is not None:
        wider = ", or take model.compute_dtype=bfloat16 or float32"
      raise Diverged(
        f"step {step}: the loss is {loss} and the gradient norm {grad_norm};"
        f" {kept}. Lower opt.lr or opt.clip_norm{wider}, or look at the batch"
      )
    if skipped and loss_scale and loss_scale / 2 < self._min_loss_scale:
      kept, saved = self._keep(step, batch)
      least = self._min_loss_scale
      lower = "opt.loss_scale_min or opt.lr" if least > 1 else "opt.lr"
      begin, weights = "begin again", ""
      if saved:
        begin = "go on from the weights"
        weights = f" --config.init_from={self._workdir} and"
      raise Diverged(
        f"step {step}: the float16 gradient overflows at every loss scale down"
        f" to opt.loss_scale_min={least:.10g}; {kept}. Lower {lower}, or"
        f" {begin} in another --workdir, with{weights}"
        " --config.model.compute_dtype=float32 or bfloat16"
      )
    warning = None
    if self._seen >= 20 and loss > self.mean + self._spike:
      kept, _ = self._keep(step, batch)
      warning = (
        f"step {step}: the loss jumped to {loss:.3f} from {self.mean:.3f};"
        f" {kept}"
      )
    self._seen += 1
    rate = max(1 / self._seen, 0.05)  # a plain mean at first
    self.mean = rate * loss + (1 - rate) * self.mean if rate < 1 else loss
    return warning

  def _keep(self, step, batch) -> tuple[str, bool]:
    """What was kept, in words; and whether a checkpoint is among it."""
    last_checkpoint = self._good_checkpoint()
    folder = self._workdir / "bad" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "batch.npz", **batch)
    kept = f"its batch is kept as {folder / 'batch.npz'}"
    if last_checkpoint is None:
      return f"{kept}; there is no checkpoint before it", False
    source = self._workdir / "checkpoints" / str(last_checkpoint)
    target = folder / "checkpoints" / str(last_checkpoint)
    if source.exists() and not target.exists():
      try:
        shutil.copytree(source, target, copy_function=os.link)
      except OSError:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    return f"{kept}, and the last good checkpoint as {target}", True
