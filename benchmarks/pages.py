"""A benchmark's page in docs/: tables, and curves on logarithmic axes."""

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any


def facts() -> str:
  """Where and when something was measured."""
  import jax

  return (
    f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__},"
    f" {datetime.date.today().isoformat()}"
  )


def grid(
  title: str,
  columns: Mapping[Any, str],
  rows: Mapping[str, Mapping[Any, str]],
) -> str:
  """A Markdown table under a heading.

  Args:
    columns: key -> what stands above it.
    rows: name -> key of a column -> text; a dash where there is none.
  """
  lines = [
    f"| | {' | '.join(columns.values())} |",
    f"|---|{'---:|' * len(columns)}",
  ]
  for name, of in rows.items():
    cells = " | ".join(of.get(column, "-") for column in columns)
    lines.append(f"| {name} | {cells} |")
  return f"## {title}\n\n" + "\n".join(lines)


def curves(
  panels: Sequence[tuple[str, Mapping[str, Mapping[int, float]]]],
  xlabel: str,
  width: float = 9.2,
  height: float = 3.4,
) -> bytes:
  """A PNG with a panel for each (label of y, name -> x -> y)."""
  from matplotlib.figure import Figure

  from ablax.ablate import drawing

  with drawing.style():
    figure = Figure(figsize=(width, height))
    for axes, (ylabel, series) in zip(
      figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
      ends, ticks = [], set()
      for i, (name, of) in enumerate(series.items()):
        look, xs, ys = drawing.look(i), list(of), list(of.values())
        axes.plot(xs, ys, marker="o", markersize=3.5, linewidth=1.3, **look)
        ends.append((float(xs[-1]), float(ys[-1]), name, look["color"]))
        ticks |= set(xs)
      axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
      axes.set_xticks(sorted(ticks), [f"{x:,}" for x in sorted(ticks)])
      axes.minorticks_off()
      drawing.label_ends(axes, ends)
    return drawing.save(figure)["png"]
