"""A process that trains one job after another, as its parent tells it.

Reads one job a line from standard input and answers with one line each. It
ends, at once, when its parent is gone: a sweep that is killed leaves nothing
behind that goes on writing.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import pathlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

Job = Mapping[str, Any]


def main() -> None:
  answers = os.fdopen(os.dup(1), "w")
  # Whatever is printed while it trains belongs to the log.
  os.dup2(2, 1)
  jobs: queue.Queue[str | None] = queue.Queue()
  busy = threading.Event()
  threading.Thread(target=_listen, args=(jobs, busy), daemon=True).start()
  settings = json.loads(jobs.get() or "{}")
  _settle(settings)
  while (line := jobs.get()) is not None:
    answer = run_job(json.loads(line))
    busy.clear()  # first: the answer brings the next job
    print(json.dumps(answer), file=answers, flush=True)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(0)  # its runs are written: to take jax down takes a second


def _listen(jobs: queue.Queue[str | None], busy: threading.Event) -> None:
  for line in sys.stdin:
    busy.set()  # from the first word on: a job may wait while jax is imported
    jobs.put(line)
  if busy.is_set():
    os._exit(1)  # the parent is gone: what it resumes must not run twice
  jobs.put(None)


def _settle(settings: Mapping[str, Any]) -> None:
  """Before jax is imported: cores, and where compiled programs are kept."""
  if settings.get("cores") and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, settings["cores"])
  import absl.logging

  from ..train.compile_cache import use_compile_cache
  from .code import code_version

  code_version()  # now, as it is imported: a file may be edited meanwhile

  # Orbax and Grain report what they do through absl, at length.
  absl.logging.set_verbosity(absl.logging.ERROR)
  use_compile_cache(pathlib.Path(settings["compiled"]))


def run_job(job: Job) -> dict[str, Any]:
  """Trains a group; says how each of its runs ended.

  Returns:
    status: done, stopped (by a signal) or taken (by another process).
  """
  folder = pathlib.Path(job["folder"])
  with held(folder / job["group"] / "lock") as mine:
    if not mine:
      return {"status": "taken"}
    return _train(job, folder)


@contextlib.contextmanager
def held(lock: pathlib.Path) -> Iterator[bool]:
  """Whether this process alone has the lock; a death gives it back."""
  lock.parent.mkdir(parents=True, exist_ok=True)
  with lock.open("w") as stream:
    try:
      fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      yield False
      return
    yield True


def _train(job: Job, folder: pathlib.Path) -> dict[str, Any]:
  workdirs = [folder / place for place in job["workdirs"]]
  _reset_peak()
  for workdir in workdirs:
    note_code(workdir, folder / job["group"])
  start = time.perf_counter()
  try:
    outcomes = _outcomes(job, folder, workdirs)
  except Exception as error:
    traceback.print_exc()
    outcomes: Sequence[Any] = [error] * len(workdirs)
  for outcome in outcomes:
    if getattr(outcome, "stopped", None):
      return {"status": "stopped"}
  # Of seeds that trained together, each has its share.
  seconds = (time.perf_counter() - start) / len(workdirs)
  return {"status": "done", "runs": _write(job, workdirs, outcomes, seconds)}


def note_code(workdir: pathlib.Path, group: pathlib.Path) -> None:
  """Keeps which code trains a run: a line more where it goes on with other."""
  from .code import code_version
  from .files import write_whole
  from .result import CODE, codes

  places = (workdir / "checkpoints", group / "checkpoints")
  begun = any(any(place.glob("[0-9]*")) for place in places)
  lines = codes(workdir) if begun else []
  if lines[-1:] != [code_version()]:
    text = "".join(f"{line}\n" for line in (*lines, code_version()))
    write_whole(workdir, CODE, text.encode())


def _write(
  job: Job,
  workdirs: Sequence[pathlib.Path],
  outcomes: Sequence[Any],
  seconds: float,
) -> list[str]:
  """Writes each run's result; how each of them ended."""
  from ..train.guard import Diverged
  from .result import failed, make_result, write_result

  runs = []
  for i, outcome in enumerate(outcomes):
    facts: dict[str, Any] = {
      "arm": job["arm"],
      "seed": job["seeds"][i],
      "place": job["workdirs"][i],
      "changes": job["changes"],
      "error": "",
    }
    if isinstance(outcome, Exception):
      said = " ".join(f"{type(outcome).__name__}: {outcome}".split())
      facts["error"] = said[:1000]
    try:
      run = make_result(
        workdirs[i],
        **facts,
        seconds=seconds,
        peak_bytes=_peak(),
        together=len(workdirs),
        counted=getattr(outcome, "accounts", None),
      )
    except Exception as error:
      if not isinstance(outcome, Exception):
        traceback.print_exc()
        facts["error"] = " ".join(f"{type(error).__name__}: {error}".split())
      run = failed(**facts)
    if isinstance(outcome, Diverged):
      run = dataclasses.replace(run, status="diverged")
    write_result(workdirs[i], run)
    runs.append(run.status)
  return runs


def _outcomes(
  job: Job, folder: pathlib.Path, workdirs: Sequence[pathlib.Path]
) -> Sequence[Any]:
  """Of each run: its Result, or Diverged."""
  from ..train.config import from_dict
  from ..train.loop import train
  from ..train.together import train_together

  configs = [from_dict(config) for config in job["configs"]]
  print(f"\n===== {job['name']}", flush=True)
  data = prepared(_any_seed(configs[0].data))
  name = job["arm"]
  if len(configs) == 1:
    return [train(configs[0], workdirs[0], name=name, prepared=data)]
  group = folder / job["group"]
  return train_together(configs, workdirs, group, name=name, prepared=data)


def _any_seed(data: Any) -> Any:
  """The data of all seeds: the seed orders the rows and does not make them."""
  return dataclasses.replace(data, seed=0)


@functools.lru_cache(maxsize=2)
def prepared(data: Any) -> Any:
  from ..data.prepare import prepare

  return prepare(data, progress=False)


def _reset_peak() -> None:
  with contextlib.suppress(OSError):
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
  """The largest resident size since the job began; 0 where it isn't known."""
  try:
    status: TextIO
    with open("/proc/self/status") as status:
      line = next(x for x in status if x.startswith("VmHWM"))
  except (OSError, StopIteration):
    return 0
  return int(line.split()[1]) * 1024


if __name__ == "__main__":
  main()
