"""A comparison as report.html: one file, which asks the network for nothing."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from . import grids
from .drawing import DPI
from .markdown import timed
from .record import Record
from .table import Table

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ name }}</title>
<style>
:root {
  --ink: #1b1f24; --soft: #59636e; --rule: #d1d9e0; --paper: #ffffff;
  --stripe: #f6f8fa; --good: #0a6b4f; --bad: #a23b0a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ee; --soft: #9aa4b0; --rule: #3b434d; --paper: #14181d;
    --stripe: #1b2027; --good: #5fd0a5; --bad: #f0975c;
  }
}
body {
  margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif;
}
h1 { font-size: 1.7rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; }
.claim { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 48rem; }
.notes { border-left: 3px solid var(--bad); padding: .2rem 1rem; margin: 1rem 0;
  list-style: none; max-width: 48rem; }
.below, .sources { color: var(--soft); font-size: .86rem; max-width: 52rem; }
.below p { margin: .35rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink);
  font-variant-numeric: tabular-nums; }
th { font-weight: 500; white-space: nowrap;
  border-bottom: 1px solid var(--ink); }
th, td { padding: .38rem .5rem; text-align: right; vertical-align: top; }
th.text, td.text { text-align: left; }
td.text { overflow-wrap: anywhere; min-width: 7rem; }
td:not(.text) { white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--stripe); }
strong { color: var(--good); }
figure { margin: 1.5rem 0; padding: .75rem; background: #ffffff;
  border: 1px solid var(--rule); border-radius: 6px; }
figure img { display: block; max-width: 100%; height: auto; margin: auto; }
</style>
</head>
<body>
{% macro table(grid) %}
<h2>{{ grid.title }}</h2>
<div class="wide"><table>
<thead><tr>
{%- for head in grid.columns %}
<th scope="col"{{ kind(grid, loop.index0) }}>{{ head }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for row in grid.rows %}{% set i = loop.index0 %}
<tr>
{%- for cell in row -%}
<td{{ kind(grid, loop.index0) }}>
{%- if (i, loop.index0) in grid.bold %}<strong>{{ cell }}</strong>
{%- else %}{{ cell }}{% endif -%}
</td>
{%- endfor -%}
</tr>
{%- endfor %}
</tbody>
</table></div>
<div class="below">
{%- for note in grid.notes %}
<p>{{ note }}</p>
{%- endfor %}
</div>
{% endmacro %}
{% macro figure(name) %}
<figure><img alt="{{ alts.get(name, name) }}" width="{{ widths[name] }}"
  src="{{ images[name] }}"></figure>
{% endmacro %}
<h1>{{ name }}</h1>
<p class="claim">{{ claim }}</p>
{%- if notes %}
<ul class="notes">
{%- for note in notes %}
<li>{{ note }}</li>
{%- endfor %}
</ul>
{%- endif %}
{{ table(grids[0]) }}
{%- for each in images if not timed(each) %}{{ figure(each) }}{% endfor %}
{%- for grid in grids[1:] %}{{ table(grid) }}{% endfor %}
<p class="sources">{{ sources }}</p>
{{ table(costs) }}
{%- for each in images if timed(each) %}{{ figure(each) }}{% endfor %}
</body>
</html>
"""

_ALTS = {
  "curves": "Learning curves: mean and confidence band over seeds",
  "differences": "Paired differences from the baseline, by seed",
  "sensitivity": "Metric against what is varied, the best of each line marked",
  "pareto": "Metric against what an arm costs by its config",
  "pareto_time": "Metric against the time of a run",
  "scaling": "Scaling fit",
}


def _kind(grid: grids.Grid, column: int) -> Any:
  text = column == 0 or grid.columns[column] in grid.texts
  return Markup(' class="text"') if text else ""


def _width(png: bytes) -> int:
  """In CSS pixels, 96 to the inch: from the file's head."""
  return round(struct.unpack(">I", png[16:20])[0] * 96 / DPI)


def report(table: Table, record: Record, pngs: Mapping[str, bytes]) -> str:
  """The whole file, its figures inside.

  Args:
    pngs: name -> figure, in the order to show them.
  """
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined
  )
  images = {
    name: "data:image/png;base64," + base64.b64encode(data).decode()
    for name, data in pngs.items()
  }
  return environment.from_string(_TEMPLATE).render(
    name=table.facts.name,
    claim=table.facts.claim.strip(),
    notes=table.notes,
    grids=grids.before_costs(table),
    costs=grids.costs(table),
    sources=grids.sources(table.facts, record.runs),
    images=images,
    widths={name: _width(data) for name, data in pngs.items()},
    alts=_ALTS,
    kind=_kind,
    timed=timed,
  )
