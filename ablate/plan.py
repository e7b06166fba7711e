"""sweep.json: what a sweep set out to do, fixed when it begins.

The grouping of seeds into programs, the cores of a run and what the budget's
solver chose stay as they are when the sweep goes on; seeds and arms may be
added.
"""

import dataclasses
import errno
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..train.workdir import differences
from .arms import slug
from .files import partial_name, write_whole
from .sweep import Sweep, plain

FILE = "sweep.json"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclasses.dataclass(frozen=True)
class Group:
  """Seeds of one arm that train in one program: one job."""

  arm: str
  seeds: tuple[int, ...]

  @property
  def name(self) -> str:
    return f"{self.arm} seed {','.join(map(str, self.seeds))}"

  @property
  def folder(self) -> str:
    """Of the group's checkpoints, relative to the sweep's folder."""
    seeds = "-".join(map(str, self.seeds))
    return f"groups/{slug(self.arm)}/{seeds}"

  def workdirs(self) -> tuple[str, ...]:
    return tuple(workdir(self.arm, seed) for seed in self.seeds)


def workdir(arm: str, seed: int) -> str:
  """Of one run, relative to the sweep's folder."""
  return f"runs/{slug(arm)}/seed={seed}"


@dataclasses.dataclass(frozen=True)
class Plan:
  """The content of sweep.json.

  Attributes:
    arms: name -> hash, overrides and resolved config.
    solved: arm -> what the budget's solver chose.
    groups: all jobs, in their order.
    cores: of each process; the sums of a product depend on it.
    code: as in code.py.
  """

  name: str
  baseline: str
  arms: Mapping[str, Mapping[str, Any]]
  solved: Mapping[str, Mapping[str, Any]]
  seeds: tuple[int, ...]
  groups: tuple[Group, ...]
  cores: int
  code: str


def make_plan(
  sweep: Sweep, n_seeds: int, together: int, cores: int, code: str
) -> Plan:
  arms = {
    arm.name: {
      "hash": arm.config.hash,
      "overrides": dict(arm.overrides),
      "config": plain(arm.config),
    }
    for arm in sweep.arms
  }
  seeds = tuple(range(n_seeds))
  solved = {arm.name: dict(arm.solved) for arm in sweep.arms if arm.solved}
  groups = _groups(list(arms), seeds, together, ())
  return Plan(
    sweep.name, sweep.baseline, arms, solved, seeds, groups, cores, code
  )


def _groups(
  arms: Sequence[str],
  seeds: Sequence[int],
  together: int,
  there: Sequence[Group],
) -> tuple[Group, ...]:
  """Those there are, and more for the seeds that have none yet.

  Seed by seed, so that a sweep that is cut short has all arms of some seeds.
  """
  taken = {(group.arm, seed) for group in there for seed in group.seeds}
  groups = [group for group in there if group.arm in arms]
  for start in range(0, len(seeds), together):
    for arm in arms:
      some = [s for s in seeds[start : start + together]]
      some = [seed for seed in some if (arm, seed) not in taken]
      if some:
        groups.append(Group(arm, tuple(some)))
  return tuple(groups)


def read_plan(folder: pathlib.Path) -> Plan | None:
  """The plan of a folder; None where there is none.

  Raises:
    UserError: the file is not one of a sweep, or cut off.
  """
  file = folder / FILE
  if not file.is_file():
    return None
  try:
    values = json.loads(file.read_text(encoding="utf-8"))
    values["groups"] = tuple(
      Group(group["arm"], tuple(group["seeds"])) for group in values["groups"]
    )
    values["seeds"] = tuple(values["seeds"])
    return Plan(**values)
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{file} is cut off or no sweep's ({error}); the runs beside it are"
      " intact: move the file away and run the same command again"
    ) from error


def _bytes(plan: Plan) -> bytes:
  return (json.dumps(dataclasses.asdict(plan), indent=1) + "\n").encode()


def write_plan(folder: pathlib.Path, plan: Plan) -> None:
  """Whole, or not at all."""
  write_whole(folder, FILE, _bytes(plan))


def begin(folder: pathlib.Path, plan: Plan) -> Plan:
  """Writes the plan where there is none yet; of several shards, one does."""
  folder.mkdir(parents=True, exist_ok=True)
  target = folder / FILE
  partial = pathlib.Path(partial_name(str(target)))
  try:
    partial.write_bytes(_bytes(plan))
    os.link(partial, target)
  except FileExistsError:
    pass
  except OSError as error:
    # Cloud drives and FAT have no links: there, the first to look is the one.
    if error.errno not in _NO_LINKS:
      raise
    if not target.exists():
      partial.replace(target)
  finally:
    partial.unlink(missing_ok=True)
  found = read_plan(folder)
  if found is None:
    raise UserError(
      f"{target} is no file; move it away, or choose another --workdir"
    )
  return found


def _same(arm: Mapping[str, Any]) -> tuple[Any, ...]:
  """What must not change in an arm: what it trains, and what is measured."""
  config = arm["config"]
  stretch = config["eval"].get("stretch", "")
  return arm["hash"], stretch, config["data"].get("eval_lengths", [0])


def go_on(
  folder: pathlib.Path, old: Plan, new: Plan, together: int, mixed: bool
) -> Plan:
  """The plan to go on with: the old one, with what the new one adds.

  Args:
    mixed: go on with other code.

  Raises:
    UserError: the folder holds another sweep, or was begun with other code.
  """
  what = None
  if old.baseline != new.baseline:
    what = f"its baseline is {old.baseline!r}, not {new.baseline!r}"
  for arm in new.arms:
    if arm in old.arms and _same(old.arms[arm]) != _same(new.arms[arm]):
      found = differences(old.arms[arm]["config"], new.arms[arm]["config"])
      said = "; ".join(found[:3]) or "the text of a plugin"
      what = what or f"arm {arm!r} differs in {said}"
  if what:
    raise UserError(
      f"{folder} holds the results of another sweep: {what}; choose another"
      " --workdir"
    )
  if old.code != new.code and not mixed:
    raise UserError(
      f"{folder} was begun with other code ({old.code}; now {new.code}); its"
      " runs are not comparable with new ones: choose another --workdir, or"
      " go on with --mixed, which the table will say"
    )
  seeds = old.seeds if len(old.seeds) > len(new.seeds) else new.seeds
  groups = _groups(list(new.arms), seeds, together, old.groups)
  solved = {**new.solved, **old.solved}
  return dataclasses.replace(
    new, seeds=seeds, groups=groups, solved=solved, cores=old.cores
  )
