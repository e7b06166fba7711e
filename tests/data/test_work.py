"""Work on batches: the same on any number of processes, and after a kill."""

import multiprocessing
import os
import pickle
import signal
import time

import pyarrow as pa
import pytest

from ablax.data import work


class Count:
  """Lengths of texts, and a file for each call, to see who worked."""

  def __init__(self, folder, dies_at=None):
    self.folder, self.dies_at = folder, dies_at

  def __call__(self, texts):
    if self.dies_at in texts:
      raise KeyboardInterrupt
    (self.folder / f"{texts[0]}-{os.getpid()}").touch()
    return pa.table({"length": [len(text) for text in texts]})


BATCHES = [["a"], ["bb", "c"], ["dddd"], ["e", "ff"], ["ggg"]]
LENGTHS = [[1], [2, 1], [4], [1, 2], [3]]


@pytest.fixture
def calls(tmp_path):
  (tmp_path / "calls").mkdir()
  return tmp_path / "calls"


def lengths(tables):
  return [table["length"].to_pylist() for table in tables]


def test_results_come_in_order_and_stay(tmp_path, calls):
  tables = work.run(Count(calls), BATCHES, tmp_path / "w")
  assert lengths(tables) == LENGTHS
  assert lengths(work.finished(tmp_path / "w")) == LENGTHS


def test_what_was_finished_is_not_done_again(tmp_path, calls):
  with pytest.raises(KeyboardInterrupt):
    list(work.run(Count(calls, "dddd"), BATCHES, tmp_path / "w"))
  assert len(list(calls.iterdir())) == 2
  assert lengths(work.run(Count(calls), BATCHES, tmp_path / "w")) == LENGTHS
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
  list(work.run(Count(calls), BATCHES[:2], tmp_path / "w"))
  whole = tmp_path / "w" / "0000001.arrow"
  # What a kill leaves: the partial file, under another name.
  whole.with_suffix(".123").write_bytes(whole.read_bytes()[:20])
  whole.unlink()
  assert lengths(work.run(Count(calls), BATCHES, tmp_path / "w")) == LENGTHS


def _run_in_a_process(folder, calls):
  class Slow(list):
    def __iter__(self):
      for batch in BATCHES:
        yield batch
        time.sleep(0.3)

  list(work.run(Count(calls), Slow(), folder, workers=2))


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
  assert lengths(work.run(Count(calls), BATCHES, tmp_path / "w", 2)) == LENGTHS
  assert len(list(calls.iterdir())) == called + 5 - stored


def test_a_task_that_others_can_not_import_stays_here(tmp_path, calls):
  class Local(Count):
    pass

  assert work._travels(Count(calls))
  assert not work._travels(Local(calls))
  assert not work._travels(lambda texts: pa.table({"length": [1]}))
  # As a plugin's: importable here, under a name that no other process has.
  Local.__qualname__ = "Local"
  Local.__module__ = "_ablax_plugin_x"
  assert not work._travels(Local(calls))
  assert lengths(work.run(Local(calls), BATCHES, tmp_path / "w", 2)) == LENGTHS
  assert {int(c.name.split("-")[1]) for c in calls.iterdir()} == {os.getpid()}
  assert pickle.loads(pickle.dumps(Count(calls))).folder == calls
