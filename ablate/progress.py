"""How far a sweep is: a bar on a terminal or in a notebook, lines elsewhere."""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from ..train.logs import read_metrics
from ..train.notebook import Display, in_notebook

_LINES_S = 20  # between two lines where there is no terminal


class Progress:
  """Counts updates, of finished runs and of those that go on."""

  def __init__(
    self, console: Console, folder: pathlib.Path, runs: int, updates: int
  ):
    self._console = console
    self._folder = folder
    self._runs, self._updates = runs, updates
    self._ended = self._done = 0
    self._start = self._next = time.monotonic()
    self._bar = self._notebook = None
    if in_notebook():
      self._notebook = Display("updates", 0, updates, "")
    elif console.is_terminal:
      self._bar = RichProgress(
        TextColumn("{task.fields[runs]}"),
        BarColumn(bar_width=None),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[now]}"),
        console=console,
      )
      self._task = self._bar.add_task(
        "", total=updates, runs="", left="", now=""
      )

  def __enter__(self) -> "Progress":
    if self._bar:
      self._bar.start()
    return self

  def __exit__(self, *exception: Any) -> None:
    if self._bar:
      self._bar.stop()
    if self._notebook:
      self._notebook.close()

  def end(self, runs: int, updates: int) -> None:
    """Some runs have ended that would have had so many updates."""
    self._ended += runs
    self._done += updates

  def tick(self, running: Sequence[Mapping[str, Any]]) -> None:
    """Looks at the logs of the jobs that run."""
    now = time.monotonic()
    live = self._bar or self._notebook
    if not live and (now < self._next or self._console.quiet):
      return
    steps, said = 0, []
    for job in running:
      places = [self._step(self._folder / place) for place in job["workdirs"]]
      steps += sum(places)
      seeds = ",".join(map(str, job["seeds"]))
      said.append(f"{job['arm']} seed {seeds} at {places[0]}")
    done = self._done + steps
    left = ""
    if done:
      seconds = (now - self._start) * (self._updates / done - 1)
      left = f"{seconds / 60:.0f} min left"
    runs = f"{self._ended}/{self._runs} runs"
    if self._bar:
      self._bar.update(
        self._task, completed=done, runs=runs, left=left, now="; ".join(said)
      )
    elif self._notebook:
      self._notebook.update(done, f"{runs}  {'; '.join(said)}  {left}")
    else:
      print(f"{runs}  {'; '.join(said)}  {left}", flush=True)
      self._next = now + _LINES_S

  def _step(self, workdir: pathlib.Path) -> int:
    lines = read_metrics(workdir)
    return lines[-1].get("step", 0) if lines else 0
