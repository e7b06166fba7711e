"""The comparison that a record holds, as plain values: what all outputs print.

An arm is tested where each seed asked of it has finished, in the arm and in the
baseline, and there are two at least. To leave out the seeds that diverged would
compare the lucky ones; such an arm is shown, with the reason.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from ..errors import UserError, nearest
from .record import Facts, Record, Run
from .statistics import Comparison, Summary, compare, summarize

# What an arm needs, by its config alone: equal from one execution to the next.
SIZES = ("params", "train_flops", "tokens", "memory_bytes")


@dataclasses.dataclass(frozen=True)
class Row:
  """One arm.

  Attributes:
    asked: the seeds that the sweep wanted.
    values: seed -> metric, of the runs that finished.
    differences: seed -> arm - baseline, of the seeds that both have.
    comparison: None for the baseline and for what is not tested.
    verdict: baseline, better, worse, not separated or not tested.
    why: the reason where it is not tested.
    sizes: of SIZES; relative: the same over the baseline's, minus 1.
    at_lengths: length -> the metric on held-out rows of that length.
    seconds, tokens_per_s, peak_bytes: mean, median and largest over seeds;
      None where not known. Timings, the only ones here.
  """

  arm: str
  changes: Mapping[str, Any]
  solved: Mapping[str, Any]
  asked: tuple[int, ...]
  values: Mapping[int, float]
  differences: Mapping[int, float]
  summary: Summary
  comparison: Comparison | None
  verdict: str
  why: str
  sizes: Mapping[str, float]
  relative: Mapping[str, float]
  at_lengths: Mapping[int, Summary]
  seconds: float | None
  tokens_per_s: float | None
  peak_bytes: int | None

  @property
  def bold(self) -> bool:
    """Only what the seeds support, and in the right direction."""
    return self.comparison is not None and self.comparison.better


@dataclasses.dataclass(frozen=True)
class Table:
  """All arms, the baseline first.

  Attributes:
    facts: of the sweep; metric and goal may be others than the table's.
    broken: the runs that did not finish.
    notes: what a reader must know to judge the rest.
  """

  facts: Facts
  metric: str
  goal: str
  rows: tuple[Row, ...]
  broken: tuple[Run, ...]
  notes: tuple[str, ...]

  @property
  def plain_metric(self) -> str:
    """The metric's name without a length of rows."""
    return _without_length(self.metric)

  @property
  def tested(self) -> list[tuple[Row, Comparison]]:
    return [(r, r.comparison) for r in self.rows if r.comparison is not None]


def tabulate(
  record: Record, metric: str | None = None, goal: str | None = None
) -> Table:
  """Compares the arms of a record.

  Args:
    metric, goal: others than those that the sweep was made for.

  Raises:
    UserError: no run has that metric, it can't be compared between the arms'
      tokenizers, or the goal is neither min nor max.
  """
  facts = record.facts
  notes = [*facts.notes, *_mixed(record)]
  if metric is not None and metric != facts.metric:
    known = {name for run in record.runs for name in run.final}
    if metric not in known:
      raise UserError(
        f"--metric={metric} is not in any run of {facts.name}"
        f"{nearest(metric, known)}"
      )
    if len(
      {run.tokenizer for run in record.runs} - {""}
    ) > 1 and not metric.endswith("bits_per_byte"):
      raise UserError(
        f"--metric={metric} is per token, and the arms of {facts.name} have"
        " different tokenizers; use --metric=heldout/bits_per_byte"
      )
    notes.append(
      f"The sweep was made to compare {facts.metric}; this report compares"
      f" {metric}, which was chosen afterwards."
    )
  metric, goal = metric or facts.metric, goal or facts.goal
  if goal not in ("min", "max"):
    raise UserError(f"--goal={goal} is not known; use min or max")
  arms = [facts.baseline, *(a for a in facts.arms if a != facts.baseline)]
  runs = {arm: [r for r in record.runs if r.arm == arm] for arm in arms}
  values = {arm: _values(runs[arm], metric) for arm in arms}
  why = {
    arm: _why_not(facts, arm, runs, values)
    for arm in arms
    if arm != facts.baseline
  }
  base = values[facts.baseline]
  tested = {
    arm: {seed: values[arm][seed] for seed in facts.seeds_of(arm)}
    for arm, reason in why.items()
    if not reason
  }
  found = compare(base, tested, goal=goal, alpha=facts.alpha) if tested else {}
  base_sizes = _sizes(runs[facts.baseline])
  rows = [
    _row(
      arm,
      facts,
      metric,
      runs[arm],
      values[arm],
      base,
      found.get(arm),
      why.get(arm, ""),
      base_sizes,
    )
    for arm in arms
  ]
  broken = tuple(r for r in record.runs if r.status != "finished")
  reasons = {row.why for row in rows[1:]}
  if len(rows) > 2 and len(reasons) == 1 and (why_all := reasons.pop()):
    notes.append(f"No arm is tested: {why_all}.")
  else:
    notes += [f"{r.arm} is not tested: {r.why}." for r in rows if r.why]
  return Table(facts, metric, goal, tuple(rows), broken, tuple(notes))


def _values(runs: Sequence[Run], metric: str) -> dict[int, float]:
  found = {
    run.seed: run.final[metric]
    for run in runs
    if run.status == "finished" and metric in run.final
  }
  return {s: v for s, v in sorted(found.items()) if math.isfinite(v)}


_AT_LENGTH = re.compile(r"(?<=/)len=(\d+)/")


def _without_length(metric: str) -> str:
  return _AT_LENGTH.sub("", metric)


def _at_lengths(
  runs: Sequence[Run], metric: str, alpha: float
) -> dict[int, Summary]:
  plain = _without_length(metric)
  names = {
    int(found[1]): name
    for run in runs
    for name in run.final
    if (found := _AT_LENGTH.search(name)) and _without_length(name) == plain
  }
  return {
    length: summarize(list(_values(runs, name).values()), alpha)
    for length, name in sorted(names.items())
  }


def _why_not(
  facts: Facts,
  arm: str,
  runs: Mapping[str, Sequence[Run]],
  values: Mapping[str, Mapping[int, float]],
) -> str:
  """Why an arm can't be tested; "" where it can."""
  asked = facts.seeds_of(arm)
  for name in (arm, facts.baseline):
    lacking = [seed for seed in asked if seed not in values[name]]
    if lacking:
      ended = {run.seed: run.status for run in runs[name]}
      said = [
        f"{seed} ({_ending(ended.get(seed, 'not run'))})" for seed in lacking
      ]
      whose = "" if name == arm else f"the baseline, {name}, has "
      few = "seed" if len(lacking) == 1 else "seeds"
      return f"{whose}no value for {few} {', '.join(said)}"
  if len(asked) < 2:
    return f"{len(asked)} seed; a test needs at least 2"
  return ""


def _ending(status: str) -> str:
  return "it lacks the metric" if status == "finished" else status


def _sizes(runs: Sequence[Run]) -> dict[str, float]:
  """Of a run that finished, if any did: the same for all seeds.

  One that was cut short still tells what does not grow with its updates.
  """
  for run in runs:
    if run.status == "finished":
      return {k: float(getattr(run, k)) for k in SIZES}
  for run in runs:
    if run.params:  # not of one that left nothing to read
      return {k: float(getattr(run, k)) for k in ("params", "memory_bytes")}
  return {}


def _row(
  arm: str,
  facts: Facts,
  metric: str,
  runs: Sequence[Run],
  values: Mapping[int, float],
  base: Mapping[int, float],
  comparison: Comparison | None,
  why: str,
  base_sizes: Mapping[str, float],
) -> Row:
  if arm == facts.baseline:
    verdict = "baseline"
  elif comparison is None:
    verdict = "not tested"
  elif not comparison.separated:
    verdict = "not separated"
  else:
    verdict = "better" if comparison.better else "worse"
  sizes = _sizes(runs)
  done = [r for r in runs if r.status == "finished"]
  times = [r.seconds for r in done if r.seconds > 0]
  speeds = [r.tokens_per_s for r in done if r.tokens_per_s > 0]
  peaks = [r.peak_bytes for r in done if r.peak_bytes > 0]
  return Row(
    arm=arm,
    changes=runs[0].changes if runs else {},
    solved=facts.solved.get(arm, {}),
    asked=facts.seeds_of(arm),
    values=values,
    differences={s: values[s] - base[s] for s in values if s in base}
    if arm != facts.baseline
    else {},
    summary=summarize(list(values.values()), facts.alpha),
    comparison=comparison,
    verdict=verdict,
    why=why,
    sizes=sizes,
    relative={
      k: v / base_sizes[k] - 1 for k, v in sizes.items() if base_sizes.get(k)
    },
    at_lengths=_at_lengths(runs, metric, facts.alpha),
    seconds=fmean(times) if times else None,
    tokens_per_s=median(speeds) if speeds else None,
    peak_bytes=max(peaks, default=None),
  )


def _mixed(record: Record) -> list[str]:
  """Notes on what a comparison takes to be equal and is not.

  What the sweep's own notes speak of is not said twice.
  """

  def of(key: str) -> list[str]:
    found = sorted({getattr(run, key) for run in record.runs} - {""})
    word = key.removesuffix("_fingerprint")
    told = any(word in note for note in record.facts.notes)
    return found if len(found) > 1 and not told else []

  notes = []
  if codes := of("code"):
    notes.append(f"Runs of different code are compared: {'; '.join(codes)}.")
  if of("tokenizer"):
    notes.append(
      "Arms differ in their tokenizer: losses per token can't be compared,"
      " bits per byte can."
    )
  elif of("data_fingerprint"):
    notes.append("Runs differ in their data.")
  return notes
