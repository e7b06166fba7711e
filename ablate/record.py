"""The record of a sweep: one tidy table, a row for each run."""

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .files import Folder, read_whole, write_whole

# Columns that differ from one execution to the next.
TIMINGS = ("seconds", "tokens_per_s", "peak_bytes")


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run that has ended.

  Attributes:
    status: finished, diverged or failed.
    changes: key -> value where the config differs from the baseline arm's.
    steps: updates done.
    train_flops: of the whole run, by the model's own matmuls.
    memory_bytes: accounted: weights, gradients, optimizer, activations.
    seconds, tokens_per_s, peak_bytes: measured, so not the same twice.
    tokenizer: its fingerprint.
    workdir: relative to the sweep's folder.
    final: the last value of each metric.
    curves: metric -> (step, value) in the order of steps.
  """

  arm: str
  seed: int
  status: str
  error: str
  changes: Mapping[str, Any]
  steps: int
  tokens: int
  params: int
  train_flops: float
  memory_bytes: int
  seconds: float
  tokens_per_s: float
  peak_bytes: int
  config_hash: str
  data_fingerprint: str
  tokenizer: str
  code: str
  workdir: str
  final: Mapping[str, float]
  curves: Mapping[str, Sequence[tuple[int, float]]]


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a sweep set out to do.

  Attributes:
    claim: the docstring of its config.
    arms: in the config's order, the baseline among them.
    axes: the config keys in which arms may differ.
    metric: as in Run.final.
    goal: min or max.
    seeds: those asked for.
    budget: params, flops, tokens, memory, time, or "" for none.
    solved: arm -> the values that the budget's solver chose.
    notes: lines that a report must show.
    asked: arm -> its seeds, where they are not `seeds`; of merged sweeps.
    fit: scaling, or "" for no law.
    base: the baseline's value of each key that an arm changes.
  """

  name: str
  claim: str
  baseline: str
  arms: tuple[str, ...]
  axes: tuple[str, ...]
  metric: str
  goal: str
  seeds: tuple[int, ...]
  alpha: float
  budget: str
  solved: Mapping[str, Mapping[str, Any]]
  notes: tuple[str, ...]
  asked: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
  fit: str = ""
  base: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def seeds_of(self, arm: str) -> tuple[int, ...]:
    return self.asked.get(arm, self.seeds)


@dataclasses.dataclass(frozen=True)
class Record:
  """A sweep's facts and its runs, in the order of arms and seeds."""

  facts: Facts
  runs: tuple[Run, ...]


FILE = "runs.parquet"
_KEY, _FORMAT = b"ablax", 1

# The type of each column; curves and metrics are maps, what may hold any
# value is JSON.
_CURVE = pa.list_(pa.struct([("step", pa.int64()), ("value", pa.float64())]))
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_NESTED = {
  "changes": pa.string(),
  "final": pa.map_(pa.string(), pa.float64()),
  "curves": pa.map_(pa.string(), _CURVE),
}
_FIELDS = [
  pa.field(f.name, _NESTED[f.name] if f.name in _NESTED else _TYPES[f.type])
  for f in dataclasses.fields(Run)
]


def write(record: Record, folder: Folder) -> None:
  """Writes runs.parquet and runs.csv, each whole or not there.

  Equal records give equal bytes, whatever the order of runs and of keys.
  """
  facts = {"format": _FORMAT, **dataclasses.asdict(record.facts)}
  schema = pa.schema(_FIELDS, {_KEY: _json(facts).encode()})
  rows = [_row(run) for run in in_order(record.facts, record.runs)]
  stream = io.BytesIO()
  pq.write_table(pa.Table.from_pylist(rows, schema), stream)
  write_whole(folder, FILE, stream.getvalue())
  text = io.StringIO()
  lines = csv.DictWriter(text, [f.name for f in _FIELDS], lineterminator="\n")
  lines.writeheader()
  for row in rows:
    nested = {k: _json(_plain(dict(row[k]))) for k in ("final", "curves")}
    lines.writerow(row | nested)
  write_whole(folder, "runs.csv", text.getvalue().encode())


def read(folder: Folder) -> Record:
  """Reads what `write` wrote.

  Raises:
    UserError: the file is not there, is cut off, or is no record of a sweep.
  """
  place = f"{os.fspath(folder).rstrip('/')}/{FILE}"
  again = (
    "run ablax ablate with this --workdir again: it writes the file anew and"
    " repeats no run that has finished"
  )
  data = read_whole(folder, FILE)
  if data is None:
    raise UserError(f"{place} is not there; {again}")
  try:
    table = pq.read_table(io.BytesIO(data))
  except (pa.ArrowException, OSError):
    raise UserError(
      f"{place} is cut off or damaged ({len(data)} bytes); {again}"
    ) from None
  foreign = f"{place} is not a record of a sweep"
  try:
    facts = json.loads((table.schema.metadata or {})[_KEY])
    version = facts.pop("format")
  except (KeyError, ValueError, AttributeError):
    raise UserError(f"{foreign}: it lacks its facts; {again}") from None
  if version != _FORMAT:
    raise UserError(
      f"{place} has format {version!r} and this ablax reads {_FORMAT}; {again}"
    )
  lacking = [f.name for f in _FIELDS if f not in list(table.schema)]
  wanted = {f.name for f in dataclasses.fields(Facts)}
  if lacking or facts.keys() != wanted:
    names = ", ".join([*lacking, *sorted(facts.keys() ^ wanted)])
    raise UserError(f"{foreign} of this ablax: see {names}; {again}")
  for key in ("arms", "axes", "seeds", "notes"):
    facts[key] = tuple(facts[key])
  facts["asked"] = {k: tuple(v) for k, v in facts["asked"].items()}
  runs = [_run(row) for row in table.to_pylist()]
  return Record(Facts(**facts), tuple(runs))


def in_order(facts: Facts, runs: Iterable[Run]) -> tuple[Run, ...]:
  """The runs by arm, as the config has them, and seed."""
  place = {arm: i for i, arm in enumerate(facts.arms)}
  known = sorted(
    runs, key=lambda r: (place.get(r.arm, len(place)), r.arm, r.seed)
  )
  return tuple(known)


def _row(run: Run) -> dict[str, Any]:
  """A row of the table; a metric that was no number is NaN."""
  row = {f.name: getattr(run, f.name) for f in _FIELDS}
  curves = {
    name: [{"step": s, "value": _number(v)} for s, v in points]
    for name, points in run.curves.items()
  }
  return row | {
    "changes": _json(run.changes),
    "final": sorted((k, _number(v)) for k, v in run.final.items()),
    "curves": sorted(curves.items()),
  }


def _run(row: dict[str, Any]) -> Run:
  curves = {
    name: tuple((p["step"], p["value"]) for p in points)
    for name, points in row["curves"]
  }
  return Run(
    **row
    | {
      "changes": json.loads(row["changes"]),
      "final": dict(row["final"]),
      "curves": curves,
    }
  )


def _number(value: float | None) -> float:
  return math.nan if value is None else value


def _plain(value: Any) -> Any:
  """For JSON, which has no word for NaN: a curve is pairs, NaN is null."""
  if isinstance(value, dict):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, list):
    return [[p["step"], _plain(p["value"])] for p in value]
  return value if math.isfinite(value) else None


def _json(value: Any) -> str:
  return json.dumps(value, sort_keys=True, ensure_ascii=False)
