"""Work on batches: the same on any number of processes, and after a kill."""

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import time
from typing import ClassVar

import pyarrow as pa
import pytest

from ablax.data import work
from ablax.errors import UserError


class Count:
  """Lengths of texts, and a file for each call, to see who worked."""

  def __init__(self, folder, dies_at=None, pause=0.0):
    self.folder, self.dies_at, self.pause = folder, dies_at, pause

  def __call__(self, texts):
    if self.dies_at in texts:
      raise KeyboardInterrupt
    (self.folder / f"{texts[0]}-{os.getpid()}").touch()
    time.sleep(self.pause)
    return pa.table({"length": [len(text) for text in texts]})


BATCHES = [["a"], ["bb", "c"], ["dddd"], ["e", "ff"], ["ggg"]]
LENGTHS = [[1], [2, 1], [4], [1, 2], [3]]


@pytest.fixture
def calls(tmp_path):
  (tmp_path / "calls").mkdir()
  return tmp_path / "calls"


def run(task, batches, folder, n=1):
  with work.Workers(n) as workers:
    yield from workers.run(task, batches, folder)


def lengths(tables):
  return [table["length"].to_pylist() for table in tables]


def test_results_come_in_order_and_stay(tmp_path, calls):
  tables = run(Count(calls), BATCHES, tmp_path / "w")
  assert lengths(tables) == LENGTHS
  assert lengths(work.finished(tmp_path / "w")) == LENGTHS


def test_what_was_finished_is_not_done_again(tmp_path, calls):
  with pytest.raises(KeyboardInterrupt):
    list(run(Count(calls, "dddd"), BATCHES, tmp_path / "w"))
  assert len(list(calls.iterdir())) == 2
  assert lengths(run(Count(calls), BATCHES, tmp_path / "w")) == LENGTHS
  assert len(list(calls.iterdir())) == 5


def test_the_last_of_two_at_once_removes_the_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path))
  with work.unfinished("x") as folder:
    with work.unfinished("x") as other:
      assert other == folder
    assert folder.is_dir()
  assert not folder.exists()
  with pytest.raises(KeyboardInterrupt), work.unfinished("x") as folder:
    raise KeyboardInterrupt
  assert folder.is_dir()


def test_a_result_that_was_half_written_is_made_again(tmp_path, calls):
  list(run(Count(calls), BATCHES[:2], tmp_path / "w"))
  whole = tmp_path / "w" / "0000001.arrow"
  # What a kill leaves: the partial file, under another name.
  whole.with_suffix(".123").write_bytes(whole.read_bytes()[:20])
  whole.unlink()
  assert lengths(run(Count(calls), BATCHES, tmp_path / "w")) == LENGTHS


class Inline(concurrent.futures.Executor):
  """Does what it is given at once, in this process."""

  made: ClassVar[list[int]] = []

  def __init__(self, n, *args, **kwargs):
    self.made.append(n)

  def submit(self, function, *args):
    future = concurrent.futures.Future()
    future.set_result(function(*args))
    return future


def test_workers_are_started_once_and_where_there_is_enough_to_do(
  tmp_path, calls, monkeypatch
):
  monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", Inline)
  monkeypatch.setattr(Inline, "made", [])
  with work.Workers(3) as workers:
    for name, n, made in (("few", 3, []), ("a", 5, [3]), ("b", 5, [3])):
      tables = workers.run(Count(calls), BATCHES[:n], tmp_path / name)
      assert lengths(tables) == LENGTHS[:n] and Inline.made == made
  # What is finished needs nobody.
  assert lengths(run(Count(calls), BATCHES, tmp_path / "a", 2)) == LENGTHS
  assert Inline.made == [3]


class Killed:
  def __call__(self, texts):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_in_one_line(tmp_path):
  with pytest.raises(UserError, match="one of the 2 workers was killed"):
    list(run(Killed(), BATCHES, tmp_path / "w", 2))


def _run_in_a_process(folder, calls):
  list(run(Count(calls, pause=0.5), BATCHES, folder, 2))


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_end_with_their_parent(
  tmp_path, calls
):
  context = multiprocessing.get_context("spawn")
  parent = context.Process(
    target=_run_in_a_process, args=(tmp_path / "w", calls)
  )
  parent.start()
  while not list(calls.iterdir()):
    time.sleep(0.05)
  os.kill(parent.pid, signal.SIGKILL)
  parent.join()
  time.sleep(2)
  workers = {int(call.name.split("-")[1]) for call in calls.iterdir()}
  assert workers and parent.pid not in workers
  for pid in workers:
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)
  called = len(list(calls.iterdir()))
  stored = len(list((tmp_path / "w").glob("*.arrow")))
  assert stored < 5
  assert lengths(run(Count(calls), BATCHES, tmp_path / "w", 2)) == LENGTHS
  assert len(list(calls.iterdir())) == called + 5 - stored


def test_a_task_that_others_can_not_import_stays_here(tmp_path, calls):
  class Local(Count):
    pass

  assert work.travels(Count(calls))
  assert not work.travels(Local(calls))
  assert not work.travels(lambda texts: pa.table({"length": [1]}))
  # As a plugin's: importable here, under a name that no other process has.
  Local.__qualname__ = "Local"
  Local.__module__ = "_ablax_plugin_x"
  assert not work.travels(Local(calls))
  assert lengths(run(Local(calls), BATCHES, tmp_path / "w", 2)) == LENGTHS
  assert {int(c.name.split("-")[1]) for c in calls.iterdir()} == {os.getpid()}
  assert pickle.loads(pickle.dumps(Count(calls))).folder == calls
