"""Work on batches of text: in order, on several processes, and resumable.

Each batch's result is a file. What a killed run has finished is read instead
of made again, so that the results are the same, however often it was killed
and on however many processes it ran.
"""

import collections
import concurrent.futures
import contextlib
import importlib.util
import io
import multiprocessing
import os
import pathlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import feather

from .cache import held, remove_unheld, root

Task = Callable[[Sequence[str]], pa.Table]


def run(
  task: Task,
  batches: Iterable[Sequence[str]],
  folder: pathlib.Path,
  workers: int = 1,
) -> Iterator[pa.Table]:
  """Yields `task(batch)` for each batch, in order.

  Args:
    task: makes a table from texts; the same one from the same texts.
    folder: of `unfinished`, whose name tells all that the results depend on.
    workers: processes; 1 works in this one. A task that others cannot import,
      such as a plugin's, is done in this one too.
  """
  folder.mkdir(parents=True, exist_ok=True)
  if workers == 1 or not _travels(task):
    for i, texts in enumerate(batches):
      yield _result(task, texts, _file(folder, i))
    return
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=context, initializer=_start, initargs=(task,)
  )
  # Enough to keep all workers busy while the oldest result is awaited.
  ahead = 2 * workers
  waiting: collections.deque[concurrent.futures.Future[None]] = (
    collections.deque()
  )
  n_read = 0
  try:
    for i, texts in enumerate(batches):
      waiting.append(pool.submit(_store, list(texts), _file(folder, i)))
      if len(waiting) == ahead:
        waiting.popleft().result()
        yield _load(_file(folder, n_read))
        n_read += 1
    for future in waiting:
      future.result()
      yield _load(_file(folder, n_read))
      n_read += 1
  finally:
    pool.shutdown(cancel_futures=True)


def finished(folder: pathlib.Path) -> Iterator[pa.Table]:
  """Yields the results that `run` has left in a folder, in order."""
  i = 0
  while (file := _file(folder, i)).exists():
    yield _load(file)
    i += 1


@contextlib.contextmanager
def unfinished(name: str) -> Iterator[pathlib.Path]:
  """Gives the folder of some results, and removes it when they are used.

  What an error or a kill leaves stays, to go on from. Where several processes
  do the same work at once, the last one removes it.
  """
  folder = root() / "work" / name
  with held(folder):
    yield folder
  remove_unheld(folder)


def _file(folder: pathlib.Path, i: int) -> pathlib.Path:
  return folder / f"{i:07}.arrow"


def _load(file: pathlib.Path) -> pa.Table:
  return feather.read_table(file, memory_map=False)


def _result(task: Task, texts: Sequence[str], file: pathlib.Path) -> pa.Table:
  if file.exists():
    return _load(file)
  table = task(texts)
  # Whole or not at all; two processes write the same.
  partial = file.with_suffix(f".{os.getpid()}")
  feather.write_feather(table, str(partial), compression="lz4")
  partial.replace(file)
  return table


_task: Task | None = None  # of a worker process


def _start(task: Task) -> None:
  """Readies a worker, which ends with its parent even if that is killed."""
  global _task
  _task = task
  parent: Any = multiprocessing.parent_process()

  def follow() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()


def _store(texts: Sequence[str], file: pathlib.Path) -> None:
  assert _task is not None
  _result(_task, texts, file)


def _travels(task: Task) -> bool:
  """Whether a fresh process can unpickle it."""
  modules = set()

  class Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
      modules.add(getattr(obj, "__module__", None) or "builtins")
      return NotImplemented

  try:
    Pickler(io.BytesIO()).dump(task)
    return all(map(importlib.util.find_spec, modules))
  except (pickle.PicklingError, AttributeError, TypeError, ValueError):
    return False
