"""What a person sees: the plan before step 1, and the progress bar."""

import sys
import time

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)
from rich.table import Table

from .accounting import Accounts
from .config import Config
from .notebook import Display, in_notebook
from .setup import Setup


def count(n: float | int) -> str:
  for unit in ("", "k", "M", "G", "T", "P"):
    if n < 1000 or unit == "P":
      return f"{n:,.0f}" if not unit else f"{n:.2f} {unit}"
    n /= 1000
  raise AssertionError


def size(n: float | int) -> str:
  for unit in ("B", "kB", "MB", "GB", "TB"):
    if n < 1000 or unit == "TB":
      return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
    n /= 1000
  raise AssertionError


def plan_table(setup: Setup, accounts: Accounts, title: str) -> Table:
  """Parameters, FLOPs and memory of the run that is about to start."""
  config, a = setup.config, accounts
  mesh = setup.layout.mesh
  split = ", ".join(f"{k}={n}" for k, n in mesh.shape.items() if n > 1)
  rows = config.data.batch_size // config.opt.accum_steps
  tokens = config.data.batch_size * config.data.seq_len
  table = Table(title=title, title_justify="left", show_header=False)
  table.add_column(style="bold")
  table.add_column(justify="right")
  table.add_column(style="dim")

  def row(name, value, note=""):
    table.add_row(name, value, note)

  embedding = f"{count(a.embedding_params)} of them in embedding tables"
  row("parameters", count(a.params), embedding)
  row(
    "FLOPs per token",
    count(a.train_flops),
    f"3 x {count(a.forward_flops)} forward; matmuls that are needed",
  )
  row("parameter memory", size(a.param_bytes), config.model.param_dtype)
  row("optimizer memory", size(a.opt_bytes), config.opt.name)
  row(
    "activation memory",
    size(a.activation_bytes),
    f"kept for the backward pass of {rows} x {config.data.seq_len} tokens,"
    f" remat {config.model.remat}",
  )
  if a.decode_state_bytes is None:
    row("decode-state memory", "none", "the model can't generate text")
  else:
    note = f"one sequence of {config.model.max_len} tokens"
    row("decode-state memory", size(a.decode_state_bytes), note)
  row(
    "training tokens",
    count(tokens * config.steps),
    f"{config.steps} updates of {config.data.batch_size} x"
    f" {config.data.seq_len}",
  )
  row("training FLOPs", count(a.train_flops * tokens * config.steps))
  row("devices", str(mesh.size), split or mesh.devices.flat[0].platform)
  return table


class Bar:
  """A bar on a terminal or in a notebook, a line now and then elsewhere.

  Args:
    start: the updates done already.
    seeds: that train in one program.
  """

  def __init__(
    self, console: Console, config: Config, start: int, seeds: int = 1
  ):
    self._total = config.steps
    self._tokens = config.data.batch_size * config.data.seq_len
    self._shown = config.log.progress
    self._title = "training" if seeds == 1 else f"training {seeds} seeds"
    self._bar = self._notebook = None
    self._next_line = time.monotonic()
    if self._shown and in_notebook():
      self._notebook = Display(self._title, start, self._total, "compiling")
    elif self._shown and console.is_terminal:
      self._bar = Progress(
        TextColumn(self._title),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
      )
      self._task = self._bar.add_task("", total=self._total, text="compiling")
      self._bar.update(self._task, completed=start)

  def __enter__(self) -> "Bar":
    if self._bar:
      self._bar.start()
    return self

  def __exit__(self, *exception) -> None:
    if self._bar:
      self._bar.stop()
    if self._notebook:
      self._notebook.close()

  def update(
    self,
    step: int,
    loss: float,
    tokens_per_s: float,
    peak_fraction: float,
    seeds: int = 1,
  ) -> None:
    """Shows an update.

    Args:
      loss: the mean over the seeds.
      tokens_per_s, peak_fraction: their sum.
      seeds: that still train.
    """
    text = (
      f"loss {loss:.3f}  {count(tokens_per_s)} tokens/s"
      f"  {peak_fraction:.0%} of matmul peak"
    )
    left = (self._total - step) * self._tokens * seeds / tokens_per_s
    if self._notebook:
      self._notebook.update(step, f"{text}  {left:.0f} s left", loss)
    elif self._bar:
      self._bar.update(self._task, completed=step, text=text)
    elif self._shown and time.monotonic() >= self._next_line:
      title = "" if self._title == "training" else f"{self._title}: "
      print(
        f"{title}step {step}/{self._total}  {text}  {left:.0f} s left",
        flush=True,
      )
      self._next_line = time.monotonic() + 10


def make_console() -> Console:
  """A console that leaves files and pipes plain and unwrapped."""
  return Console(
    file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty()
  )
