"""`--profile=START:END`: a trace of some updates, for xprof."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax

from ..errors import UserError


class Profile:
  """Traces the updates from `first` to `last` into a folder.

  Updates are numbered as in the log: the first one is 1. With `last = 0`
  nothing is traced.
  """

  def __init__(self, folder: pathlib.Path, first: int = 1, last: int = 0):
    self.folder = folder
    self.first, self.last = first, last
    self._tracing = False

  @classmethod
  def parse(cls, text: str, folder: pathlib.Path, steps: int) -> "Profile":
    """Reads START:END, the updates START to END - 1 of a run of `steps`."""
    if not re.fullmatch(r"\d+:\d+", text):
      raise UserError(
        f"--profile={text} is not START:END, two numbers of updates, as in"
        " --profile=10:13"
      )
    start, end = map(int, text.split(":"))
    if not 1 <= start < end:
      raise UserError(
        f"--profile={text} traces no update: the first one is 1, and END comes"
        " after the last one; try --profile=10:13"
      )
    if end - 1 > steps:
      raise UserError(
        f"--profile={text} ends after the last update, steps={steps}; END may"
        f" be {steps + 1} at most"
      )
    return cls(folder, start, end - 1)

  def check(self, step: int) -> None:
    """Raises UserError where a run that goes on from `step` is past it."""
    if self.last and self.first <= step:
      raise UserError(
        f"--profile={self.first}:{self.last + 1}: this run has done {step}"
        " updates already; trace later ones, or drop --profile"
      )

  @contextlib.contextmanager
  def update(self, step: int) -> Iterator[None]:
    """Around one update: names it in the trace."""
    if step == self.first and self.last:
      jax.profiler.start_trace(str(self.folder))
      self._tracing = True
    if not self._tracing:
      yield
      return
    with jax.profiler.StepTraceAnnotation("update", step_num=step):
      yield

  def after(self, step: int, result: Any) -> None:
    """Ends the trace after its last update, once the device has done it."""
    if self._tracing and step == self.last:
      jax.block_until_ready(result)
      self.close()

  def close(self) -> None:
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()

  def how_to_look(self) -> str | None:
    """What to tell the user, where there is a trace."""
    if not (self.last and self.folder.exists()):
      return None
    return (
      f"trace of updates {self.first} to {self.last} in {self.folder}; look at"
      f" it with: pip install xprof; xprof --logdir={self.folder}"
    )
