"""What a sweep would do and cost: `--dry-run`, which writes nothing."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..train.peak import matmul_peak
from ..train.report import count, size
from .costs import Cost, cost
from .sweep import Sweep

# Of the matmul peak, as benchmarks/train_step.py found it for models of 4 to
# 26 M parameters on a CPU; small ones reach less.
_SHARE_OF_PEAK = 0.5
_SET_UP_S = 15  # of a run: compiling, evaluating, saving


def seconds(one: Cost, dtype: str) -> float:
  """Of a run on this machine's CPU, roughly."""
  return one.executed_flops / (_SHARE_OF_PEAK * matmul_peak(dtype)) + _SET_UP_S


def duration(s: float) -> str:
  if s < 100:
    return f"{s:.0f} s"
  return f"{s / 60:.0f} min" if s < 6000 else f"{s / 3600:.1f} h"


def show(
  sweep: Sweep, arms: Sequence[str], n_seeds: int, jobs: int, console: Console
) -> None:
  """Prints the arms with their differences, sizes and estimated time."""
  space = sweep.space
  console.print(
    f"{sweep.name}: {len(arms)} arms x {n_seeds} seeds", markup=False
  )
  console.print(f"axes: {', '.join(space.varied)}", markup=False)
  wanted = f"metric: {space.metric}, {space.goal}imum wins"
  if space.budget:
    wanted += f"; equal {space.budget}, by {space.solve}"
  console.print(wanted, markup=False)
  table = Table("arm", "differs in", title_justify="left")
  for name in ("parameters", "tokens", "FLOPs", "memory", "time"):
    table.add_column(name, justify="right")
  base = cost(sweep[sweep.baseline].config)
  total = 0.0
  for name in arms:
    arm = sweep[name]
    one = cost(arm.config)
    time = seconds(one, arm.config.model.compute_dtype)
    total += time * n_seeds
    table.add_row(
      name,
      _changes(arm.changes, arm.solved) or "the baseline",
      _beside(one.params, base.params, count),
      _beside(one.tokens, base.tokens, count),
      _beside(one.flops, base.flops, count),
      _beside(one.memory, base.memory, size),
      duration(time),
    )
  for column in table.columns[:2]:
    column.overflow = "fold"
  if not console.is_terminal:
    console.width = max(console.width, 160)
  console.print(table, markup=False)
  console.print(
    f"about {duration(total / jobs)} in all, {jobs} at a time"
    f" (estimated: {_SHARE_OF_PEAK:.0%} of this machine's matmul peak and"
    f" {_SET_UP_S} s a run)",
    markup=False,
  )


def _changes(changes: Any, solved: Any) -> str:
  said = [f"{k}={v}" for k, v in changes.items() if v is not None]
  said += [f"no {k}" for k, v in changes.items() if v is None]
  note = " (solved)" if solved else ""
  return ", ".join(said) + note


def _beside(value: float, base: float, text: Any) -> str:
  if value == base:
    return text(value)
  return f"{text(value)} ({value / base - 1:+.1%})"
