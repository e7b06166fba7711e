"""A sweep from its config to its report: what `ablax ablate` does."""

import dataclasses
import importlib
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..errors import UserError
from ..train.identity import HOW
from ..train.story import flat
from ..train.workdir import differences, read_run
from . import budget, result
from . import plan as plans
from .code import code_version
from .compare import check_comparable
from .costs import memory
from .dry_run import show
from .execute import has_ended, train_groups
from .machine import Machine, machine
from .plan import Plan
from .record import Facts, Record, Run
from .record import write as write_record
from .share import Share, shard_of
from .sweep import Sweep, load_sweep, plain, select, with_seed

if TYPE_CHECKING:
  from .table import Table


@dataclasses.dataclass(frozen=True)
class Options:
  """How a sweep is carried out.

  Attributes:
    seeds: how many; 0: as the config says.
    arms: names, with commas; "": all.
    jobs: processes at a time; 0: as many as cores and memory allow.
    together: seeds in one program; 0: as many as an accelerator's memory holds,
      and one on a CPU.
    shard: i/n, the part of the jobs that is done here.
    share: address of a folder that machines share.
    mixed: compare runs of other code or data too, and say so.
    untested: allow a single seed, which no test can judge.
    resume: refuse to begin anew.
  """

  seeds: int = 0
  arms: str = ""
  jobs: int = 0
  together: int = 0
  shard: str = "0/1"
  share: str = ""
  mixed: bool = False
  untested: bool = False
  resume: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a call came to.

  Attributes:
    record, table: of all runs that have ended; None where none has.
    waiting: runs that have not ended.
    stopped: the signal that ended it.
  """

  folder: pathlib.Path
  record: Record | None
  table: "Table | None"
  waiting: int
  stopped: str | None = None

  @property
  def failed(self) -> int:
    runs = self.record.runs if self.record else ()
    return sum(run.status == "failed" for run in runs)


def fair(sweep: Sweep, folder: pathlib.Path | None) -> Sweep:
  """The sweep with its budget met: as it was before, and for arms since."""
  if not sweep.space.budget:
    return sweep
  old = plans.read_plan(folder) if folder else None
  known: dict[str, Mapping[str, Any]] = {}
  new = sweep.names
  if old is not None and old.baseline == sweep.baseline:
    known = {arm: v for arm, v in old.solved.items() if arm in sweep.names}
    told = {*old.arms, *known}
    new = tuple(arm for arm in sweep.names if arm not in told)
  if not new:
    return sweep.with_solved(known)
  if sweep.space.budget == "time":
    from .timing import update_seconds

    timed = dict.fromkeys((sweep.baseline, *new))
    per_update = update_seconds({arm: sweep[arm].config for arm in timed})
    found = budget.solve_time(sweep, per_update)
  else:
    found = budget.solve(sweep, sweep.resolve, new)
  return sweep.with_solved({**known, **found})


def dry_run(
  path: str, given: Mapping[str, Any], options: Options, console: Console
) -> None:
  """Prints the arms and their cost; writes nothing."""
  sweep = fair(load_sweep(path, given), None)
  arms = select(sweep.names, options.arms, sweep.baseline)
  n_seeds = _n_seeds(sweep, options)
  _, jobs = _shares(sweep, len(arms), n_seeds, options, machine())
  show(sweep, arms, n_seeds, jobs, console)


def _shares(
  sweep: Sweep, n_arms: int, n_seeds: int, options: Options, here: Machine
) -> tuple[int, int]:
  """(seeds in one program, processes at a time)."""
  needs = max(memory(arm.config) for arm in sweep.arms)
  together = here.together(options.together, needs, n_seeds)
  n_groups = n_arms * -(-n_seeds // together)
  return together, here.jobs(options.jobs, needs * together, n_groups)


def _n_seeds(sweep: Sweep, options: Options) -> int:
  n = options.seeds or sweep.space.seeds
  if n < 2 and not (options.untested or sweep.space.fit):
    raise UserError(
      f"--seeds={n} gives no test a spread to judge by; use 2 or more (5 tell"
      " more), or --untested for a table without tests"
    )
  return n


def ablate(
  path: str,
  folder: pathlib.Path,
  given: Mapping[str, Any] | None = None,
  options: Options | None = None,
  console: Console | None = None,
) -> Outcome:
  """Trains what is left of a sweep, then writes its record and report.

  Args:
    path: of the config file.
    folder: of the sweep; it may hold a part of it already.
    given: overrides of the base, for all arms.

  Raises:
    UserError: the sweep can't be, or the folder is another's.
  """
  options = options or Options()
  console = console or Console(quiet=True)
  shard, n_shards = shard_of(options.shard)
  bare = load_sweep(path, given)
  arms = select(bare.names, options.arms, bare.baseline)
  n_seeds = _n_seeds(bare, options)
  share = Share(options.share, folder) if options.share else None
  if share:
    share.fetch_plan()
  if options.resume and plans.read_plan(folder) is None:
    raise UserError(f"--resume: {folder} holds no sweep to go on with")
  sweep = fair(bare, folder)
  here = machine()
  together, jobs = _shares(sweep, len(arms), n_seeds, options, here)
  cores = max(1, len(here.cores) // jobs)

  def planned(sweep: Sweep) -> Plan:
    return plans.make_plan(sweep, n_seeds, together, cores, code_version())

  old = plans.read_plan(folder) or plans.begin(folder, planned(sweep))
  if any(
    sweep[arm].solved != solved
    for arm, solved in old.solved.items()
    if arm in sweep.names
  ):
    # Another shard began meanwhile: its times are the ones that count.
    sweep = fair(bare, folder)
  plan = plans.go_on(folder, old, planned(sweep), together, options.mixed)
  if plan != old:
    plans.write_plan(folder, plan)
  if share:
    share.put_plan()
  groups = [
    group
    for i, group in enumerate(plan.groups)
    if i % n_shards == shard and group.arm in arms
  ]
  if share:
    for place in _all_workdirs(plan):
      share.fetch_result(place)
  _results(sweep, plan, folder)  # before anything is trained
  todo = [group for group in groups if not has_ended(folder, group)]
  stopped = None
  if todo:
    _import_report()
    stopped = train_groups(
      sweep,
      folder,
      todo,
      here.split(jobs, plan.cores),
      console,
      share=share,
      mixed=options.mixed,
    )
  return _finish(sweep, plan, folder, share, options.mixed, stopped)


def _import_report() -> None:
  """Beside the training: scipy and matplotlib take two seconds."""
  name = f"{__package__}.report"
  load = threading.Thread(target=importlib.import_module, args=(name,))
  load.daemon = True
  load.start()


def _all_workdirs(plan: Plan) -> list[str]:
  return [place for group in plan.groups for place in group.workdirs()]


def _finish(
  sweep: Sweep,
  plan: Plan,
  folder: pathlib.Path,
  share: Share | None,
  mixed: bool,
  stopped: str | None,
) -> Outcome:
  if share:
    for place in _all_workdirs(plan):
      share.fetch_result(place)
  from .report import write_report

  runs = _results(sweep, plan, folder)
  waiting = len(sweep.names) * len(plan.seeds) - len(runs)
  if not runs:
    return Outcome(folder, None, None, waiting, stopped)
  notes = check_comparable(
    runs,
    metric=sweep.space.metric,
    data_differs=sweep.changed_data(),
    mixed=mixed,
  )
  record = Record(_facts(sweep, plan, notes), tuple(runs))
  write_record(record, folder)
  table, _ = write_report(record, folder)
  if share:
    share.put_report()
  return Outcome(folder, record, table, waiting, stopped)


def _results(sweep: Sweep, plan: Plan, folder: pathlib.Path) -> list[Run]:
  """The runs that have ended, each of the very config that the sweep has.

  Raises:
    UserError: a folder holds the run of another config, as where an arm came
      back under its old name.
  """
  runs = []
  for arm in sweep.names:
    for seed in plan.seeds:
      place = folder / plans.workdir(arm, seed)
      run = result.read_result(place / result.FILE)
      if run is None:
        continue
      config = with_seed(sweep[arm].config, seed)
      if run.config_hash not in ("", config.hash):  # "" of one that left none
        said = f"hash {run.config_hash} there, {config.hash} here"
        if (place / "config.json").is_file():
          there, here = (
            {k: v for k, v in tree.items() if k not in HOW}
            for tree in (read_run(place)["config"], plain(config))
          )
          found = differences(there, here)
          said = "; ".join(found[:3]) or "the text of a plugin"
        raise UserError(
          f"{place} holds the run of another config: it differs in {said};"
          " choose another --workdir, or move that folder away"
        )
      runs.append(run)
  return runs


def _facts(sweep: Sweep, plan: Plan, notes: Sequence[str]) -> Facts:
  space = sweep.space
  base = flat(plain(sweep[sweep.baseline].config))
  changed = dict.fromkeys(key for arm in sweep.arms for key in arm.changes)
  return Facts(
    name=sweep.name,
    claim=sweep.claim,
    baseline=sweep.baseline,
    arms=sweep.names,
    axes=space.varied,
    metric=space.metric,
    goal=space.goal,
    seeds=plan.seeds,
    alpha=space.alpha,
    budget=space.budget,
    solved=plan.solved,
    notes=tuple(notes),
    fit=space.fit,
    base={key: base.get(key) for key in changed},
  )
