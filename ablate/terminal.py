"""A comparison on a terminal: the verdict alone."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .grids import verdicts
from .table import Table as Comparison


def show(table: Comparison, console: Console) -> None:
  """The verdict, and what a reader must know to judge it."""
  grid = verdicts(table)
  shown = Table(title=table.facts.name, title_justify="left")
  for i, name in enumerate(grid.columns):
    left = i == 0 or name in grid.texts
    shown.add_column(name, justify="left" if left else "right", overflow="fold")
  for i, row in enumerate(grid.rows):
    shown.add_row(
      *(
        Text(cell, style="bold" if (i, j) in grid.bold else "")
        for j, cell in enumerate(row)
      )
    )
  if not console.is_terminal:  # a file has no width to keep to
    console.width = 1000
  console.print(shown)
  for note in table.notes:
    console.print(f"note: {note}", markup=False)
