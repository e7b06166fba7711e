"""The jobs of a sweep: handed to processes, their results written down."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ..train.guard import StopSignal
from . import result
from .compare import check_comparable
from .plan import Group
from .pool import Pool
from .progress import Progress
from .record import Run
from .share import Share
from .sweep import Sweep, plain, with_seed


def has_ended(folder: pathlib.Path, group: Group) -> bool:
  """Whether all its runs have a result; one that failed is tried again."""
  for place in group.workdirs():
    run = result.read_result(folder / place / result.FILE)
    if run is None or run.status == "failed":
      return False
  return True


def train_groups(
  sweep: Sweep,
  folder: pathlib.Path,
  groups: Sequence[Group],
  cores: Sequence[Sequence[int]],
  console: Console,
  *,
  share: Share | None = None,
  mixed: bool = False,
) -> str | None:
  """Trains in local processes, one for each of `cores`.

  Returns:
    The signal that ended it before its time, if one did.

  Raises:
    UserError: two runs that have ended are not comparable.
  """
  todo = [_job(sweep, folder, group) for group in groups]
  settings = [
    {"cores": list(c), "compiled": str((folder / "compiled").absolute())}
    for c in cores
  ]
  pool = Pool(len(cores), lambda place: settings[place], folder / "logs")
  updates = {g.name: sweep[g.arm].config.steps * len(g.seeds) for g in groups}
  progress = Progress(
    console, folder, sum(len(g.seeds) for g in groups), sum(updates.values())
  )
  seen: list[Run] = []
  with StopSignal() as stop, progress:

    def tick() -> None:
      progress.tick(pool.running)
      if stop.received and not pool.stopping:
        pool.stop()

    try:
      for job, answer in pool.run(todo, tick):
        if pool.stopping:
          continue
        if answer["status"] == "died":
          _record_failure(folder, job, answer["error"])
        for place in job["workdirs"]:
          if share:
            share.put_result(place)
          run = result.read_result(folder / place / result.FILE)
          if run is None:
            continue
          seen.append(run)
          if run.status != "finished":
            said = f"{place}: {run.status}: {run.error}"
            console.print(said, style="yellow", markup=False)
        progress.end(len(job["seeds"]), updates[job["name"]])
        # What can't be compared should not be trained to the end.
        check_comparable(
          seen,
          metric=sweep.space.metric,
          data_differs=sweep.changed_data(),
          mixed=mixed,
        )
        tick()
    finally:
      pool.close()
  return stop.received


def _job(sweep: Sweep, folder: pathlib.Path, group: Group) -> dict[str, Any]:
  arm = sweep[group.arm]
  return {
    "name": group.name,
    "arm": group.arm,
    "seeds": list(group.seeds),
    "configs": [plain(with_seed(arm.config, seed)) for seed in group.seeds],
    "changes": dict(arm.changes),
    "folder": str(folder.absolute()),
    "group": group.folder,
    "workdirs": list(group.workdirs()),
  }


def _record_failure(
  folder: pathlib.Path, job: Mapping[str, Any], error: str
) -> None:
  for seed, place in zip(job["seeds"], job["workdirs"], strict=True):
    if result.read_result(folder / place / result.FILE) is None:
      facts = {"arm": job["arm"], "seed": seed, "changes": job["changes"]}
      run = result.failed(**facts, place=place, error=error)
      result.write_result(folder / place, run)
