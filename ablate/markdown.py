"""A comparison as report.md."""

import re
from collections.abc import Sequence

from . import grids
from .grids import Grid
from .record import Record
from .table import Table


def escape(text: str) -> str:
  """Text that Markdown leaves as it is, in a table too."""
  text = re.sub(r"([\\`*|<>\[\]#])", r"\\\1", " ".join(text.split()))
  # Inside a word an underscore means nothing, and a name stays legible.
  return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def grid(of: Grid) -> str:
  marks = [
    "---" if i == 0 or name in of.texts else "---:"
    for i, name in enumerate(of.columns)
  ]

  def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

  lines = [line([escape(name) for name in of.columns]), line(marks)]
  for i, row in enumerate(of.rows):
    cells = [escape(cell) for cell in row]
    lines.append(
      line(
        [f"**{c}**" if (i, j) in of.bold else c for j, c in enumerate(cells)]
      )
    )
  notes = [escape(note) for note in of.notes]
  return "\n".join([f"## {of.title}", "", *lines, "", "\n\n".join(notes)])


def report(table: Table, record: Record, figures: Sequence[str]) -> str:
  """The whole file.

  Args:
    figures: the names of the figures that stand beside it, without ending.
  """
  parts = [f"# {escape(table.facts.name)}", table.facts.claim.strip()]
  if table.notes:
    parts.append("\n".join(f"- {escape(note)}" for note in table.notes))
  before, costs = grids.before_costs(table), grids.costs(table)
  parts += [grid(before[0])]
  parts += [
    f"![{name}](figures/{name}.png)" for name in figures if not timed(name)
  ]
  parts += [grid(each) for each in before[1:]]
  parts.append(escape(grids.sources(table.facts, record.runs)))
  parts.append(grid(costs))
  parts += [f"![{name}](figures/{name}.png)" for name in figures if timed(name)]
  return "\n\n".join(part for part in parts if part) + "\n"


def timed(figure: str) -> bool:
  """Whether it shows timings, which stand at the end."""
  return figure.endswith("_time")
