"""Several sweeps against one baseline, as one record."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import UserError
from .record import Facts, Record, Run, in_order

_MIXED = {
  "code": "code",
  "data_fingerprint": "data",
  "tokenizer": "tokenizer",
}


def merge(records: Sequence[Record], allow_mixed: bool = False) -> Record:
  """Joins sweeps whose baselines have one config; the first gives the names.

  A run that is in several is taken once, from the first that finished it.

  Args:
    allow_mixed: compare runs of other code, data or tokenizer, with a note.

  Raises:
    UserError: they can't be compared; it names the key.
  """
  if not records:
    raise UserError("there is no sweep to merge; name at least one folder")
  first, *others = records
  for other in others:
    first = _join(first, other, allow_mixed)
  return first


def _join(a: Record, b: Record, allow_mixed: bool) -> Record:
  names = f"{a.facts.name} and {b.facts.name}"
  for key in ("metric", "goal", "alpha"):
    ours, theirs = getattr(a.facts, key), getattr(b.facts, key)
    if ours != theirs:
      raise UserError(
        f"{names} can't be compared: {key} is {ours!r} in one and {theirs!r} in"
        " the other; report each by itself"
      )
  b = _renamed(b, a.facts.baseline)
  _same_baseline(a, b, names)
  notes = _mixed(a, b, names, allow_mixed)
  _same_arms(a, b, names)
  runs, doubts = _union(a, b)
  arms = _unique((*a.facts.arms, *b.facts.arms))
  seeds = tuple(sorted({*a.facts.seeds, *b.facts.seeds}))
  asked = {arm: _asked(arm, a.facts, b.facts) for arm in arms}
  facts = Facts(
    name="+".join(_unique((a.facts.name, b.facts.name))),
    claim="\n\n".join(_unique((a.facts.claim, b.facts.claim))),
    baseline=a.facts.baseline,
    arms=arms,
    axes=_unique((*a.facts.axes, *b.facts.axes)),
    metric=a.facts.metric,
    goal=a.facts.goal,
    seeds=seeds,
    alpha=a.facts.alpha,
    budget=a.facts.budget,
    solved={**b.facts.solved, **a.facts.solved},
    notes=_unique((*a.facts.notes, *b.facts.notes, *notes, *doubts)),
    asked={arm: own for arm, own in asked.items() if own != seeds},
    base={**b.facts.base, **a.facts.base},
    # Of runs that are there for something else, no law is to be fitted.
    fit=a.facts.fit if a.facts.fit == b.facts.fit else "",
  )
  return Record(facts, in_order(facts, runs))


def _renamed(record: Record, baseline: str) -> Record:
  """The record with its baseline under another name.

  Raises:
    UserError: another arm has that name.
  """
  facts, old = record.facts, record.facts.baseline
  if old == baseline:
    return record
  if baseline in facts.arms:
    raise UserError(
      f"{facts.name} has an arm {baseline!r} that is not its baseline ({old}):"
      " rename it there"
    )

  def name(arm: str) -> str:
    return baseline if arm == old else arm

  def keyed(of: Mapping[str, Any]) -> dict[str, Any]:
    return {name(arm): value for arm, value in of.items()}

  facts = dataclasses.replace(
    facts,
    baseline=baseline,
    arms=tuple(map(name, facts.arms)),
    solved=keyed(facts.solved),
    asked=keyed(facts.asked),
  )
  runs = (dataclasses.replace(r, arm=name(r.arm)) for r in record.runs)
  return Record(facts, tuple(runs))


def _same_baseline(a: Record, b: Record, names: str) -> None:
  """A run's hash covers its seed, so that a seed in common must show it."""
  ours, theirs = (
    {r.seed: r.config_hash for r in x.runs if r.arm == x.facts.baseline}
    for x in (a, b)
  )
  common = ours.keys() & theirs.keys()
  if not common:
    raise UserError(
      f"{names} can't be compared: their baselines have no seed in common, so"
      " nothing shows that they have one config; run one seed in both"
    )
  for seed in sorted(common):
    if ours[seed] != theirs[seed]:
      raise UserError(
        f"{names} can't be compared: config_hash of the baseline"
        f" ({a.facts.baseline}, seed {seed}) is {ours[seed]} in one and"
        f" {theirs[seed]} in the other; `ablax diff` of the two runs shows the"
        " keys"
      )


def _mixed(a: Record, b: Record, names: str, allowed: bool) -> list[str]:
  """Notes on what differs between the sweeps but should not.

  Data and tokenizer may be what arms differ in, so the baselines' count.
  """
  notes = []

  def check(key: str, what: str, get: Callable[[Record], set[str]]) -> None:
    ours, theirs = get(a), get(b)
    if ours == theirs or not (ours and theirs):
      return
    said = (
      f"{' and '.join(sorted(ours))} in {a.facts.name},"
      f" {' and '.join(sorted(theirs))} in {b.facts.name}"
    )
    if not allowed:
      raise UserError(
        f"{names} can't be compared: {key} is {said}; allow it with"
        " --mixed, and the report will say so"
      )
    notes.append(f"Runs of different {what} are compared: {said}.")

  for key, what in _MIXED.items():

    def values(record: Record, key: str = key) -> set[str]:
      every = key == "code"
      runs = (r for r in record.runs if every or r.arm == record.facts.baseline)
      return {getattr(r, key) for r in runs} - {""}

    check(key, what, values)
  check("budget", "budgets", lambda record: {record.facts.budget or "none"})
  return notes


def _same_arms(a: Record, b: Record, names: str) -> None:
  """An arm of both must be one thing: the same changes of one baseline."""
  ours = {r.arm: r.changes for r in a.runs}
  for run in b.runs:
    if run.arm in ours and run.changes != ours[run.arm]:
      keys = sorted(
        k
        for k in {*run.changes, *ours[run.arm]}
        if run.changes.get(k) != ours[run.arm].get(k)
      )
      raise UserError(
        f"{names} both have an arm {run.arm!r}, but not the same one: they"
        f" differ in {', '.join(keys)}; rename one of them"
      )


def _union(a: Record, b: Record) -> tuple[list[Run], list[str]]:
  """All runs, each once, and a note for each that did not repeat itself."""
  taken = {(r.arm, r.seed): r for r in a.runs}
  metric, doubts = a.facts.metric, []
  for run in b.runs:
    old = taken.setdefault((run.arm, run.seed), run)
    if old is run:
      continue
    ends = {old.status, run.status}
    if ends == {"finished", "diverged"}:
      doubts.append(
        f"{run.arm}, seed {run.seed}, diverged in one sweep and finished in the"
        " other: the one that finished is taken."
      )
    if old.status != "finished" and run.status == "finished":
      taken[run.arm, run.seed] = run
    elif run.status == old.status == "finished" and run.final.get(
      metric
    ) != old.final.get(metric):
      doubts.append(
        f"{run.arm}, seed {run.seed}, was run in both sweeps with other"
        f" results ({metric} {old.final.get(metric)} and"
        f" {run.final.get(metric)}): the first is taken."
      )
  return list(taken.values()), doubts


def _asked(arm: str, a: Facts, b: Facts) -> tuple[int, ...]:
  seeds = {
    s for facts in (a, b) if arm in facts.arms for s in facts.seeds_of(arm)
  }
  return tuple(sorted(seeds))


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
  return tuple(dict.fromkeys(values))
