"""The figures of a comparison: learning curves, differences, Pareto fronts."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..train.report import count, size
from . import drawing
from .grids import direction
from .lengths import lengths
from .record import Record, Run
from .sensitivity import sensitivity
from .statistics import summarize
from .table import Row, Table

# A curve of more points is averaged over as many stretches of updates: what is
# left of the noise is the band's.
POINTS = 60
# More arms than can be named beside their points stand in a legend.
NAMED = 8

Band = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(
  table: Table, record: Record, more: Mapping[str, Figure] | None = None
) -> dict[str, dict[str, bytes]]:
  """Draws all that there is something to show of.

  Args:
    more: figures to show with them, such as a scaling law's.

  Returns:
    name -> {"pdf": bytes, "png": bytes}.
  """
  kinds: dict[str, Callable[[], Figure | None]] = {
    "differences": lambda: differences(table),
    "lengths": lambda: lengths(table),
    "sensitivity": lambda: sensitivity(table),
    "curves": lambda: curves(table, record),
    "pareto": lambda: pareto(table, ("train_flops", "params", "memory_bytes")),
    **{
      name: lambda figure=figure: figure
      for name, figure in (more or {}).items()
    },
    "pareto_time": lambda: pareto(table, ("seconds",)),
  }
  found = {}
  with drawing.style():
    for name, make in kinds.items():
      if (figure := make()) is not None:
        found[name] = drawing.save(figure)
  return found


def curves(table: Table, record: Record) -> Figure | None:
  """Training loss and metric over updates: mean over seeds and its t interval.

  What the first tenth of the updates does is out of the picture where it would
  press the rest together.
  """
  keys = dict.fromkeys(("loss", table.metric))
  bands = {
    key: {
      row.arm: band
      for row in table.rows
      if (band := _band(record.runs, row.arm, key, table.facts.alpha))
    }
    for key in keys
  }
  shown = [key for key in keys if bands[key]]
  if not shown:
    return None
  rows = max(len(bands[key]) for key in shown)
  figure = Figure(
    figsize=(5.0 * len(shown), max(3.1, 0.19 * rows + 1.2)),
  )
  for axes, key in zip(
    figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
  ):
    _curves(axes, table, bands[key])
    name = "training loss" if key == "loss" else key
    axes.set(xlabel="update", ylabel=with_unit(name))
  return figure


def _curves(axes: Axes, table: Table, bands: Mapping[str, Band]) -> None:
  ends, late = [], []
  faint = 0.16 if len(bands) <= 5 else 0.07
  for i, row in enumerate(table.rows):
    if row.arm not in bands:
      continue
    steps, mean, low, high = bands[row.arm]
    look = drawing.look(i)
    axes.plot(steps, mean, linewidth=1.3, zorder=3, **look)
    axes.fill_between(
      steps, low, high, color=look["color"], alpha=faint, linewidth=0
    )
    ends.append((steps[-1], mean[-1], row.arm, look["color"]))
    settled = steps >= steps[-1] / 10
    # A band of few seeds has spikes, which may go out of the picture.
    half = float(np.nanmedian(high - mean)) if np.isfinite(high).any() else 0.0
    late += [*(mean[settled] - 2 * half), *(mean[settled] + 2 * half)]
  finite = [y for y in late if math.isfinite(y)]
  if finite:
    pad = 0.05 * (max(finite) - min(finite)) or 0.05 * abs(max(finite)) or 1.0
    axes.set_ylim(min(finite) - pad, max(finite) + pad)
  drawing.label_ends(axes, ends)


def _band(runs: Sequence[Run], arm: str, key: str, alpha: float) -> Band | None:
  """(steps, mean, low, high) at the steps that all seeds of the arm have."""
  found = [
    {step: v for step, v in run.curves[key] if math.isfinite(v)}
    for run in runs
    if run.arm == arm and run.status == "finished" and run.curves.get(key)
  ]
  steps = sorted(set.intersection(*map(set, found))) if found else []
  if not steps:
    return None
  values = np.array([[curve[step] for step in steps] for curve in found])
  parts = np.array_split(np.arange(len(steps)), min(POINTS, len(steps)))
  values = np.stack([values[:, part].mean(1) for part in parts], 1)
  middles = np.array([np.mean([steps[i] for i in part]) for part in parts])
  told = [summarize(column.tolist(), alpha) for column in values.T]
  mean, low, high = np.array([(s.mean, s.low, s.high) for s in told]).T
  return middles, mean, low, high


def differences(table: Table) -> Figure | None:
  """Each seed's difference from the baseline, their mean and its interval."""
  rows = [row for row in table.rows if row.differences]
  if not rows:
    return None
  figure = Figure(figsize=(6.6, 1.15 + 0.36 * len(rows)))
  axes = figure.subplots()
  axes.axvline(0, color=drawing.BASELINE, linewidth=0.8, zorder=1)
  for place, row in enumerate(rows):
    values = list(row.differences.values())
    c = row.comparison
    colour = drawing.GREY
    if c is not None and c.separated:
      colour = drawing.COLOURS[0] if c.better else drawing.COLOURS[1]
    axes.plot(
      values,
      [place + 0.17] * len(values),
      "o",
      color=colour,
      alpha=0.55,
      markersize=3.6,
      markeredgewidth=0,
      zorder=2,
    )
    axes.plot(
      [np.mean(values)], [place - 0.08], "D", color=colour, markersize=4.6
    )
    if c is not None and math.isfinite(c.low):
      axes.plot([c.low, c.high], [place - 0.08] * 2, color=colour, linewidth=2)
    axes.annotate(
      row.verdict,
      xy=(1.02, place),
      xycoords=("axes fraction", "data"),
      va="center",
      fontsize=8,
      color=colour,
      annotation_clip=False,
    )
  axes.set_yticks(range(len(rows)), [drawing.short(row.arm) for row in rows])
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.tick_params(axis="y", length=0)
  axes.spines["left"].set_visible(False)
  axes.set_xlabel(
    f"difference from {drawing.short(table.facts.baseline)} in {table.metric}"
    f" ({direction(table)})\ndots: seeds; line: interval at Holm's level"
  )
  return figure


def pareto(table: Table, costs: Sequence[str]) -> Figure | None:
  """The metric against each cost in which arms differ.

  The arms that no other beats in both are joined.
  """
  shown = []
  for cost in costs:
    points = {
      i: (x, row)
      for i, row in enumerate(table.rows)
      if row.summary.n and (x := _cost(row, cost))
    }
    xs = [x for x, _ in points.values()]
    if len(xs) > 1 and max(xs) > 1.001 * min(xs):
      shown.append((cost, points))
  if not shown:
    return None
  n = max(len(points) for _, points in shown)
  beside = 2.6 if n > NAMED else 0.4
  figure = Figure(figsize=(3.9 * len(shown) + beside, max(3.2, 0.17 * n + 0.6)))
  all_axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
  for axes, (cost, points) in zip(all_axes, shown, strict=True):
    _front(axes, table, points)
    axes.set(xlabel=_COSTS[cost][0])
    axes.xaxis.set_major_formatter(lambda x, _, c=cost: tick(_COSTS[c][1], x))
    axes.xaxis.get_major_locator().set_params(nbins=4)
  all_axes[0].set_ylabel(f"{table.metric} ({direction(table)})")
  if n > NAMED:
    figure.legend(
      *all_axes[0].get_legend_handles_labels(),
      loc="outside right center",
      fontsize=8,
    )
    return figure
  for axes, (_, points) in zip(all_axes, shown, strict=True):
    named = []
    for i, (x, row) in points.items():
      half = row.summary.high - row.summary.mean
      half = half if math.isfinite(half) else 0.0
      colour = drawing.look(i)["color"]
      named.append((x, row.summary.mean, half, row.arm, colour))
    drawing.label_points(axes, named, _joined(points, table.goal))
  return figure


_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
  "train_flops": ("training FLOPs", count),
  "params": ("parameters", count),
  "memory_bytes": ("accounted memory", size),
  "seconds": ("time of a run (s)", lambda x: f"{x:g}"),
}


def with_unit(metric: str) -> str:
  """A metric's name with its unit, where the name does not have that."""
  return f"{metric} (nats per token)" if metric.endswith("loss") else metric


def tick(form: Callable[[float], str], x: float) -> str:
  """3.00 T as 3 T."""
  number, space, unit = form(x).partition(" ")
  if "." in number:
    number = number.rstrip("0").rstrip(".")
  return number + space + unit


def _cost(row: Row, name: str) -> float:
  if name == "seconds":
    return row.seconds or 0.0
  return row.sizes.get(name, 0.0)


def front(points: Sequence[tuple[float, float]], goal: str) -> list[int]:
  """The points that no other equals or beats in cost and in metric."""
  sign = 1 if goal == "min" else -1
  best, found = math.inf, []
  order = sorted(
    range(len(points)), key=lambda i: (points[i][0], sign * points[i][1])
  )
  for i in order:
    if sign * points[i][1] < best:
      best = sign * points[i][1]
      found.append(i)
  return found


def _joined(
  points: Mapping[int, tuple[float, Row]], goal: str
) -> list[tuple[float, float]]:
  places = [(x, row.summary.mean) for x, row in points.values()]
  return [places[i] for i in front(places, goal)]


def _front(
  axes: Axes, table: Table, points: Mapping[int, tuple[float, Row]]
) -> None:
  axes.plot(
    *zip(*_joined(points, table.goal), strict=True),
    color=drawing.GREY,
    linewidth=0.9,
    drawstyle="steps-post",
    zorder=1,
  )
  for i, (x, row) in points.items():
    # Where colours come again, markers tell arms apart.
    marker = "osD^"[max(i - 1, 0) // len(drawing.COLOURS) % 4]
    colour, s = drawing.look(i)["color"], row.summary
    half = s.high - s.mean
    axes.errorbar(
      x,
      s.mean,
      yerr=half if math.isfinite(half) else None,
      fmt=marker,
      color=colour,
      markersize=4.5,
      elinewidth=0.9,
      zorder=3,
      label=drawing.short(row.arm),
    )
  axes.margins(x=0.12)
