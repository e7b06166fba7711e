"""The metric against the length of the rows that it was measured on."""

from matplotlib.figure import Figure

from . import drawing
from .grids import direction
from .table import Table

BANDS = 5  # arms whose bands can be told apart; the table has them in any case


def lengths(table: Table) -> Figure | None:
  """A line for each arm: mean over seeds, and the band of its interval."""
  if not any(len(row.at_lengths) > 1 for row in table.rows):
    return None
  figure = Figure(figsize=(5.6, max(3.4, 0.19 * len(table.rows) + 1.2)))
  axes = figure.subplots()
  ends, ticks = [], set()
  for i, row in enumerate(table.rows):
    if not row.at_lengths:
      continue
    look = drawing.look(i)
    xs, told = [*row.at_lengths], [*row.at_lengths.values()]
    means = [s.mean for s in told]
    axes.plot(
      xs, means, marker="o", markersize=3.5, linewidth=1.3, zorder=3, **look
    )
    ends.append((float(xs[-1]), means[-1], row.arm, look["color"]))
    ticks |= {*xs}
    if len(table.rows) > BANDS:
      continue
    low, high = [s.low for s in told], [s.high for s in told]
    axes.fill_between(
      xs, low, high, color=look["color"], alpha=0.1, linewidth=0
    )
  axes.set_xscale("log")
  axes.set_xticks(sorted(ticks), [f"{x:,}" for x in sorted(ticks)])
  axes.minorticks_off()
  axes.set(
    xlabel="length of a row (tokens)",
    ylabel=f"{table.plain_metric} ({direction(table)})",
  )
  drawing.label_ends(axes, ends)
  return figure
