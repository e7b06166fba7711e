"""The metric against a number that arms vary: a learning rate, a width."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import drawing
from .grids import direction
from .table import Row, Table

_FEWEST = 3  # values that make a line
_LOG = 8.0  # largest over smallest, from where on the axis is logarithmic

Lines = Mapping[str, Sequence[tuple[float, Row]]]


def sensitivity(table: Table) -> Figure | None:
  """One panel for each number that is varied with all else equal.

  One line for each setting of the rest, its best value marked; bars are the
  intervals of the mean over seeds.
  """
  panels = {
    key: lines for key in table.facts.base if (lines := lines_of(table, key))
  }
  if not panels:
    return None
  figure = Figure(figsize=(5.2 * len(panels), 3.4))
  all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
  for axes, (key, lines) in zip(all_axes, panels.items(), strict=True):
    _panel(axes, table, lines)
    axes.set(xlabel=key)
  all_axes[0].set_ylabel(f"{table.metric} ({direction(table)})")
  return figure


def lines_of(table: Table, key: str) -> Lines:
  """Name -> (value of the key, arm) by value, where three or more arms differ
  in that key alone, and in what a budget's solver chose for them."""
  solved = {k for chosen in table.facts.solved.values() for k in chosen}
  groups: dict[str, list[tuple[float, Row]]] = {}
  for row in table.rows:
    values = {**table.facts.base, **row.changes}
    x = values.pop(key, None)
    if isinstance(x, bool) or not isinstance(x, int | float):
      continue
    if row.summary.n:
      rest = sorted((k, v) for k, v in values.items() if k not in solved)
      groups.setdefault(repr(rest), []).append((float(x), row))
  found = {}
  for points in groups.values():
    if len({x for x, _ in points}) >= _FEWEST:
      points = sorted(points, key=lambda point: point[0])
      found[_name([row.arm for _, row in points])] = points
  return found


def _name(arms: Sequence[str]) -> str:
  """The words that all these arms' names have."""
  words = [arm.split() for arm in arms]
  return " ".join(w for w in words[0] if all(w in other for other in words))


def _panel(axes: Axes, table: Table, lines: Lines) -> None:
  ends = []
  for i, (name, points) in enumerate(lines.items()):
    colour = drawing.COLOURS[i % len(drawing.COLOURS)]
    dashes = drawing.DASHES[i // len(drawing.COLOURS) % len(drawing.DASHES)]
    xs = [x for x, _ in points]
    means = [row.summary.mean for _, row in points]
    axes.errorbar(
      xs,
      means,
      yerr=[_half(row) for _, row in points],
      color=colour,
      linestyle=dashes,
      marker="o",
      markersize=3.5,
      linewidth=1.3,
      elinewidth=0.8,
    )
    best = (min if table.goal == "min" else max)(
      range(len(xs)), key=means.__getitem__
    )
    axes.plot(xs[best], means[best], "*", color=colour, markersize=10, zorder=4)
    ends.append((xs[-1], means[-1], name, colour))
  every = sorted({x for points in lines.values() for x, _ in points})
  if every[0] > 0 and every[-1] / every[0] >= _LOG:
    axes.set_xscale("log")
  if len(every) <= 8:
    axes.set_xticks(every, [f"{x:.3g}" for x in every], rotation=30)
    axes.minorticks_off()
  # Bars of few seeds may go out of the picture; means stay in it.
  means = [row.summary.mean for of in lines.values() for _, row in of]
  pad = 0.15 * (max(means) - min(means)) or 0.05 * abs(max(means)) or 1.0
  axes.set_ylim(min(means) - pad, max(means) + pad)
  if any(name for *_, name, _ in ends):
    drawing.label_ends(axes, ends)


def _half(row: Row) -> float:
  half = row.summary.high - row.summary.mean
  return half if math.isfinite(half) else 0.0
