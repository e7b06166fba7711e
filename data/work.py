"""Work on batches of text: in order, on several processes, and resumable.

Each batch's result is a file. What a killed run has finished is read instead
of made again, so that the results are the same, however often it was killed
and on however many processes it ran.
"""

import collections
import concurrent.futures.process
import contextlib
import functools
import importlib.util
import io
import itertools
import multiprocessing
import os
import pathlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import feather

from ..errors import UserError
from .cache import held, remove_unheld, root

# Batches that one process is done with while others are still starting.
_FEW = 4

Task = Callable[[Sequence[str]], pa.Table]


class Workers:
  """Processes that work for one command, started when there is enough to do.

  The results do not depend on their number. 1 works in this process; a task
  that others cannot import, such as a plugin's, is done in this one too.
  """

  def __init__(self, n: int = 1):
    self._n = n
    self._pool: concurrent.futures.ProcessPoolExecutor | None = None

  def __enter__(self) -> "Workers":
    return self

  def __exit__(self, *exception: object) -> None:
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)
      self._pool = None

  def run(
    self, task: Task, batches: Iterable[Sequence[str]], folder: pathlib.Path
  ) -> Iterator[pa.Table]:
    """Yields `task(batch)` for each batch, in order.

    Args:
      task: makes a table from texts; the same one from the same texts.
      folder: of `unfinished`, whose name tells all that the results depend on.

    Raises:
      UserError: a worker was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches = iter(batches)
    first = list(itertools.islice(batches, _FEW))
    batches = itertools.chain(first, batches)
    if self._n == 1 or len(first) < _FEW or not travels(task):
      for i, texts in enumerate(batches):
        yield _result(task, texts, _file(folder, i))
      return
    sent = folder / "task.pickle"
    _write(sent, pickle.dumps(task))
    # Enough to keep all workers busy while the oldest result is awaited.
    ahead = 2 * self._n
    waiting: collections.deque[concurrent.futures.Future[None]] = (
      collections.deque()
    )
    n_read = 0
    try:
      for i, texts in enumerate(batches):
        waiting.append(self._submit(sent, texts, _file(folder, i)))
        if len(waiting) == ahead:
          waiting.popleft().result()
          yield _load(_file(folder, n_read))
          n_read += 1
      for future in waiting:
        future.result()
        yield _load(_file(folder, n_read))
        n_read += 1
    except concurrent.futures.process.BrokenProcessPool:
      raise UserError(
        f"one of the {self._n} workers was killed, perhaps for memory; lower"
        " --workers and run again: what is finished is kept"
      ) from None

  def _submit(
    self, sent: pathlib.Path, texts: Sequence[str], file: pathlib.Path
  ) -> concurrent.futures.Future[None]:
    if file.exists():
      done: concurrent.futures.Future[None] = concurrent.futures.Future()
      done.set_result(None)
      return done
    if self._pool is None:
      self._pool = concurrent.futures.ProcessPoolExecutor(
        self._n, multiprocessing.get_context("spawn"), initializer=_start
      )
    return self._pool.submit(_store, sent, list(texts), file)


ALONE = Workers()  # this process


def finished(folder: pathlib.Path) -> Iterator[pa.Table]:
  """Yields the results that `Workers.run` has left in a folder, in order."""
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
  stream = io.BytesIO()
  feather.write_feather(table, stream, compression="lz4")
  _write(file, stream.getvalue())
  return table


def _write(file: pathlib.Path, content: bytes) -> None:
  """Writes a file whole or not at all; two processes write the same."""
  partial = file.with_suffix(f".{os.getpid()}")
  partial.write_bytes(content)
  partial.replace(file)


# In a worker process.


def _start() -> None:
  """Has a worker end with its parent even if that is killed."""
  parent: Any = multiprocessing.parent_process()

  def follow() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()


def _store(
  sent: pathlib.Path, texts: Sequence[str], file: pathlib.Path
) -> None:
  _result(_received(sent), texts, file)


@functools.lru_cache(maxsize=1)  # one is at work at a time, and may be large
def _received(sent: pathlib.Path) -> Task:
  return pickle.loads(sent.read_bytes())


def travels(task: Task) -> bool:
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
