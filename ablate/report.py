"""Writes all outputs of a comparison into a folder, from its record alone."""

import dataclasses
from collections.abc import Mapping

from matplotlib.figure import Figure

from . import html, latex, markdown
from .figures import draw
from .files import Folder, write_whole
from .laws import describe
from .record import Record
from .table import Table, tabulate


def write_report(
  record: Record,
  folder: Folder,
  metric: str | None = None,
  goal: str | None = None,
  more: Mapping[str, Figure] | None = None,
) -> tuple[Table, list[str]]:
  """Writes report.md, report.html, table.tex and figures/.

  Args:
    metric, goal: others than the sweep's own.
    more: figures to show besides its own, such as `scaling_figure.scaling`.

  Returns:
    the comparison, and the names of the files.
  """
  table = tabulate(record, metric, goal)
  if record.facts.fit:
    lines, laws = describe(record, table.metric)
    table = dataclasses.replace(table, notes=(*lines, *table.notes))
    more = {**laws, **(more or {})}
  figures = draw(table, record, more)
  pngs = {name: kinds["png"] for name, kinds in figures.items()}
  files = {
    f"figures/{name}.{kind}": data
    for name, kinds in figures.items()
    for kind, data in kinds.items()
  }
  files["table.tex"] = latex.table_tex(table).encode()
  files["report.html"] = html.report(table, record, pngs).encode()
  # The last, so that the figures it names are there.
  files["report.md"] = markdown.report(table, record, list(pngs)).encode()
  for name, data in files.items():
    write_whole(folder, name, data)
  return table, list(files)
