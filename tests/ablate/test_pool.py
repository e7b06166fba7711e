"""Processes that train: what is said of one that dies, or is left alone."""

import json
import subprocess
import sys

import pytest

from ablax.ablate import pool as pools
from ablax.ablate.pool import Pool

# Says something for each job, and then does what the job asks.
WORKER = """
import json, os, sys
sys.stdin.readline()
for line in sys.stdin:
  job = json.loads(line)
  print("begun", job["name"], file=sys.stderr, flush=True)
  if job["name"] == "killed":
    os.kill(os.getpid(), 9)
  if job["name"] == "raises":
    raise SystemExit("no such thing: x")
  print(json.dumps({"status": "done"}), flush=True)
"""


@pytest.fixture
def answers(tmp_path, monkeypatch):
  """A function from the names of jobs to what came of them, in one process."""
  real = subprocess.Popen

  def start(command, **how):
    del command
    return real([sys.executable, "-c", WORKER], **how)

  monkeypatch.setattr(pools.subprocess, "Popen", start)

  def run(*names):
    pool = Pool(1, lambda place: {}, tmp_path)
    jobs = [{"name": name} for name in names]
    found = {j["name"]: a for j, a in pool.run(jobs, lambda: None)}
    pool.close()
    return found

  return run


def test_a_worker_that_dies_says_how_and_the_rest_go_on(answers):
  found = answers("first", "killed", "raises", "last")
  assert found["first"] == found["last"] == {"status": "done"}
  assert found["killed"] == {
    "status": "died",
    "error": "the process died: SIGKILL, out of memory?; logs/worker-0.log"
    " ends with: begun killed",
  }
  assert found["raises"] == {
    "status": "died",
    "error": "the process died: exit code 1; logs/worker-0.log ends with:"
    " no such thing: x",
  }


def test_what_a_job_before_said_is_not_the_last_word_of_another(answers):
  assert "begun first" not in answers("first", "killed")["killed"]["error"]


def test_a_worker_whose_parent_dies_before_it_began_does_not_begin(tmp_path):
  job = {"folder": str(tmp_path), "group": "groups/a/0"}
  settings = {"cores": [], "compiled": str(tmp_path / "compiled")}
  ran = subprocess.run(
    [sys.executable, "-m", "ablax.ablate.worker"],
    input="".join(json.dumps(line) + "\n" for line in (settings, job)),
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 1
  assert not list(tmp_path.glob("groups/*"))
