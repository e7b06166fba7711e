"""`--profile=START:END`: a trace of some updates, for xprof."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax

from ..errors import UserError

NOTHING = (1, 0)


def parse(text: str, steps: int) -> tuple[int, int]:
  """Reads START:END of a run of `steps`: the first update and the last.

  Updates are numbered as in the log, from 1; END - 1 is the last one.
  """
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
  return start, end - 1


class Profile:
  """Traces the updates `first` to `last` into a folder, or none of them."""

  def __init__(self, folder: pathlib.Path, updates: tuple[int, int] = NOTHING):
    self.folder = folder
    self.first, self.last = updates
    self._tracing = False

  def check(self, step: int) -> str | None:
    """A warning where a run that goes on from `step` has its trace already.

    Raises:
      UserError: the run is past it, and there is no trace.
    """
    if self.first > min(step, self.last):
      return None
    past = (
      f"--profile={self.first}:{self.last + 1}: this run has done {step}"
      " updates already"
    )
    if self.folder.exists():  # by the same command, before it was stopped
      return f"{past}; what was traced is in {self.folder}"
    raise UserError(f"{past}; trace later ones, or drop --profile")

  @contextlib.contextmanager
  def update(self, step: int) -> Iterator[None]:
    """Around one update: names it in the trace."""
    if step == self.first <= self.last:
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
    if self.last < self.first or not self.folder.exists():
      return None
    return (
      f"trace of updates {self.first} to {self.last} in {self.folder}; look at"
      f" it with: pip install xprof; xprof --logdir={self.folder}"
    )
