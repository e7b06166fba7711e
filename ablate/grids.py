"""A comparison as tables of text, which Markdown, HTML and LaTeX only set."""

import dataclasses
import json
import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from ..train.report import count, size
from .record import Facts, Run
from .table import Row, Table

NONE = "–"
SIZE_NAMES = {
  "params": "parameters",
  "train_flops": "training FLOPs",
  "tokens": "tokens",
  "memory_bytes": "memory",
}


@dataclasses.dataclass(frozen=True)
class Grid:
  """Cells of text.

  Attributes:
    columns: the heads; the first column is text, the rest are numbers unless
      named in `texts`.
    bold: (row, column) of the cells to stress.
    notes: sentences that stand below.
  """

  title: str
  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  texts: frozenset[str] = frozenset()
  bold: frozenset[tuple[int, int]] = frozenset()
  notes: tuple[str, ...] = ()


def number(value: float, digits: int, sign: bool = False) -> str:
  """With a true minus, so that columns of differences align."""
  if math.isnan(value):
    return NONE
  if math.isinf(value):
    return "∞" if value > 0 else "−∞"
  text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
  if float(text) == 0:
    text = text.replace("-", "").replace("+", "")
  return text.replace("-", "−")


def percent(share: float) -> str:
  """0.0123 as +1.2 %; nothing where it is equal."""
  return "equal" if abs(share) < 5e-5 else f"{number(100 * share, 1, True)} %"


def chance(p: float) -> str:
  return "< 0.001" if p < 0.001 else f"{p:.3f}"


def level(share: float) -> str:
  return f"{100 * share:.4g} %"


def value(of: Any) -> str:
  """A config value: text bare, the rest as JSON."""
  return of if isinstance(of, str) else json.dumps(of, ensure_ascii=False)


def changes(of: Mapping[str, Any]) -> str:
  return ", ".join(f"{k}={value(v)}" for k, v in of.items())


def digits_of(table: Table) -> int:
  """Decimals that give a typical spread two digits, of arms or differences."""
  kinds = (
    [row.summary.sd for row in table.rows],
    [c.sd for _, c in table.tested],
  )
  known = [[sd for sd in kind if sd > 0] for kind in kinds]  # nan is not
  least = min((median(kind) for kind in known if kind), default=1e-3)
  return min(max(1 - math.floor(math.log10(least)), 0), 6)


def mean(row: Row, digits: int, with_sd: bool = True) -> str:
  s = row.summary
  if not s.n:
    return NONE
  if s.n < 2:
    return number(s.mean, digits)
  half = number(s.high - s.mean, digits)
  sd = f" ({number(s.sd, digits)})" if with_sd else ""
  return f"{number(s.mean, digits)} ± {half}{sd}"


def difference(row: Row, digits: int) -> str:
  if row.comparison is None:
    return NONE
  c = row.comparison
  low, high = number(c.low, digits, True), number(c.high, digits, True)
  return f"{number(c.difference, digits, True)} [{low}, {high}]"


def symmetric(row: Row, digits: int) -> str:
  """The same, shorter: a t interval lies evenly about the difference."""
  if row.comparison is None:
    return NONE
  c = row.comparison
  half = number(c.high - c.difference, digits)
  return f"{number(c.difference, digits, True)} ± {half}"


def seeds(row: Row) -> str:
  n, asked = len(row.values), len(row.asked)
  return str(n) if n == asked else f"{n} of {asked}"


def effect(row: Row) -> str:
  return number(row.comparison.effect, 2, True) if row.comparison else NONE


def direction(table: Table) -> str:
  return "lower is better" if table.goal == "min" else "higher is better"


def verdicts(table: Table) -> Grid:
  digits, facts = digits_of(table), table.facts
  rows, bold = [], set()
  for i, row in enumerate(table.rows):
    c = row.comparison
    if row.bold:
      bold |= {(i, 0), (i, 3), (i, 7)}
    rows.append(
      (
        row.arm,
        changes(row.changes) or NONE,
        seeds(row),
        mean(row, digits),
        difference(row, digits),
        chance(c.p_holm) if c else NONE,
        effect(row),
        row.verdict,
      )
    )
  confidence = level(1 - facts.alpha)
  notes = [
    f"{table.metric}: {direction(table)}. Mean over seeds ± half of its"
    f" {confidence} t interval (standard deviation).",
    f"Difference: from {facts.baseline}, paired by seed, with the t interval"
    " of the level at which Holm's correction decides on the arm: it leaves out"
    " 0 exactly where the arm is separated."
    f" p: paired t test, Holm-corrected over {many(len(table.tested), 'arm')}."
    " Effect: standardized mean of the differences (d_z, Hedges).",
    "Only an arm that is better and separated stands in bold.",
  ]
  if not table.tested:
    notes = [notes[0], "No arm is tested."]
  return Grid(
    "Verdict",
    (
      *("arm", "what differs", "seeds", table.metric, "difference"),
      *("p (Holm)", "effect", "verdict"),
    ),
    tuple(rows),
    frozenset({"what differs", "verdict"}),
    frozenset(bold),
    tuple(notes),
  )


def tests(table: Table) -> Grid | None:
  """What stands beside the test that decides."""
  if not table.tested:
    return None
  digits, alpha = digits_of(table), table.facts.alpha
  rows = []
  for row, c in table.tested:
    low, high = (number(x, digits, True) for x in c.bootstrap)
    rows.append(
      (
        row.arm,
        str(c.n),
        level(c.level),
        chance(c.p),
        f"[{low}, {high}]",
        f"{chance(c.permutation_p)} (least {chance(c.least_permutation_p)})",
        NONE if math.isnan(c.power) else f"{100 * c.power:.0f} %",
        _needed(c.seeds_needed, c.effect),
      )
    )
  blind = sorted({c.n: c.least_permutation_p for _, c in table.tested}.items())
  notes = [
    "These decide nothing: p and both tests here are of each arm alone, not"
    " corrected. With few seeds the bootstrap's interval is too narrow.",
    *(
      f"With {n} seeds the sign-flip test cannot reject at {alpha:g} whatever"
      f" the data: its least p is {least:.3g}."
      for n, least in blind
      if least >= alpha
    ),
    "Power: that another such experiment would separate the arm, were the"
    " effect seen here the true one; the last column is how many seeds a claim"
    " of this size would need for 80 %. Both at Holm's strictest level.",
  ]
  return Grid(
    "Beside the verdict",
    (
      *("arm", "pairs", "level", "p (paired t)", "bootstrap 95 %"),
      *("p (sign-flip)", "power", "seeds for 80 %"),
    ),
    tuple(rows),
    notes=tuple(notes),
  )


def _needed(n: int | None, size: float) -> str:
  if n is not None:
    return f"{n:,}"
  return NONE if size == 0 or math.isnan(size) else "> 10,000"


def amount(key: str, n: float) -> str:
  return (size if key == "memory_bytes" else count)(n)


def sizes(table: Table) -> Grid:
  """What the arms are in size, and what a budget's solver chose."""
  facts = table.facts
  keys = list(dict.fromkeys(k for row in table.rows for k in row.solved))

  def cell(row: Row, key: str) -> str:
    if key not in row.sizes:
      return NONE
    shown = amount(key, row.sizes[key])
    if row.arm == facts.baseline or key not in row.relative:
      return shown
    return f"{shown} ({percent(row.relative[key])})"

  rows = tuple(
    (
      row.arm,
      *(cell(row, key) for key in SIZE_NAMES),
      *(value(row.solved[key]) if key in row.solved else NONE for key in keys),
    )
    for row in table.rows
  )
  if facts.budget:
    note = f"The arms were given equal {facts.budget}"
    chosen = f", by the choice of {', '.join(keys)}." if keys else "."
    note += chosen
  else:
    note = "No budget was set: the arms differ by what stands in brackets."
  memory = "Memory: weights, gradients, optimizer and activations, accounted."
  return Grid(
    "Size of the arms",
    ("arm", *SIZE_NAMES.values(), *keys),
    rows,
    notes=(note, memory),
  )


def broken(table: Table) -> Grid | None:
  if not table.broken:
    return None

  def row(run: Run) -> tuple[str, ...]:
    return run.arm, str(run.seed), run.status, f"{run.steps:,}", run.error

  return Grid(
    "Runs that did not finish",
    ("arm", "seed", "status", "updates", "error"),
    tuple(map(row, table.broken)),
    frozenset({"status", "error"}),
    notes=("They are in no mean and in no test.",),
  )


def costs(table: Table) -> Grid:
  """The only grid that one execution and the next do not share."""

  def cell(value: float | int | None, form: Any) -> str:
    return NONE if value is None else form(value)

  rows = tuple(
    (
      row.arm,
      cell(row.seconds, duration),
      cell(row.tokens_per_s, count),
      cell(row.peak_bytes, size),
    )
    for row in table.rows
  )
  return Grid(
    "Costs, as measured",
    ("arm", "time of a run", "tokens/s", "largest memory of the process"),
    rows,
    notes=(
      "Mean, median and largest over the runs that finished; these differ from"
      " one execution to the next.",
    ),
  )


def duration(seconds: float) -> str:
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  if hours:
    return f"{hours} h {m:02} min"
  return f"{m} min {s:02} s" if m else f"{seconds:.3g} s"


def sources(facts: Facts, runs: tuple[Run, ...]) -> str:
  """What the report was made from."""

  def said(key: str, n: int = 10) -> str:
    return ", ".join(sorted({getattr(r, key)[:n] for r in runs} - {""})) or NONE

  return (
    f"Made from {many(len(runs), 'run')} of {facts.name}. Code:"
    f" {said('code', 99)}. Data: {said('data_fingerprint')}. Tokenizer:"
    f" {said('tokenizer')}."
  )


def many(n: int, what: str) -> str:
  return f"{n} {what}" + ("" if n == 1 else "s")


def by_length(table: Table) -> Grid | None:
  lengths = sorted({n for row in table.rows for n in row.at_lengths})
  if len(lengths) < 2:
    return None
  digits = digits_of(table)

  def cell(row: Row, length: int) -> str:
    s = row.at_lengths.get(length)
    if s is None or not s.n:
      return NONE
    half = f" ± {number(s.high - s.mean, digits)}" if s.n > 1 else ""
    return f"{number(s.mean, digits)}{half}"

  return Grid(
    "By length of rows",
    ("arm", *(f"{length:,} tokens" for length in lengths)),
    tuple(
      (row.arm, *(cell(row, length) for length in lengths))
      for row in table.rows
    ),
    notes=(
      f"{table.plain_metric} of the same held-out text in rows of each length:"
      f" mean over seeds ± half of its {level(1 - table.facts.alpha)} t"
      " interval.",
    ),
  )


def before_costs(table: Table) -> list[Grid]:
  """All grids of what a second execution gives again, in their order."""
  found = (
    verdicts(table),
    by_length(table),
    tests(table),
    sizes(table),
    broken(table),
  )
  return [grid for grid in found if grid is not None]
