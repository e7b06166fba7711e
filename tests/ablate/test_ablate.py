"""A sweep trains what is missing, survives what fails, and reports."""

import dataclasses
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ablax import diff, report
from ablax.ablate import __main__ as commands
from ablax.ablate import plan as plans
from ablax.ablate import record as records
from ablax.ablate import run as runs
from ablax.ablate import timing
from ablax.ablate.code import code_version
from ablax.ablate.record import TIMINGS
from ablax.ablate.result import write_result
from ablax.ablate.run import Options, ablate
from ablax.ablate.sweep import load_sweep
from ablax.errors import UserError
from ablax.train.checkpoint import load_model
from ablax.train.story import story

PROVES = ("feature:ablate",)
OUTPUTS = ("table.tex", "runs.parquet", "runs.csv", "report.md", "report.html")


@pytest.fixture(scope="module")
def done(config_file, tmp_path_factory):
  """Two arms with two seeds, trained; (config file, folder, outcome)."""
  file, folder = config_file(), tmp_path_factory.mktemp("sweep")
  outcome = ablate(file, folder, options=Options(seeds=2))
  return file, folder, outcome


def same_but_timings(a, b):
  blank = {name: type(getattr(a.runs[0], name))() for name in TIMINGS}
  return [dataclasses.replace(run, **blank) for run in a.runs] == [
    dataclasses.replace(run, **blank) for run in b.runs
  ]


def test_every_arm_and_seed_has_its_row(done):
  _, folder, outcome = done
  rows = [(run.arm, run.seed, run.status) for run in outcome.record.runs]
  assert rows == [(arm, s, "finished") for arm in "ab" for s in (0, 1)]
  assert (outcome.waiting, outcome.failed) == (0, 0)
  run = outcome.record.runs[2]
  assert run.changes == {"model.residual": "post"}
  assert [step for step, _ in run.curves["loss"]] == [1, 2, 3, 4, 5, 6]
  assert [step for step, _ in run.curves["heldout/loss"]] == [3, 6]
  assert run.final["heldout/loss"] == run.curves["heldout/loss"][-1][1]
  assert (run.steps, run.params > 0, run.train_flops > 0) == (6, True, True)
  for name in OUTPUTS:
    assert (folder / name).stat().st_size > 0


def test_every_run_is_an_ordinary_one(done):
  _, folder, outcome = done
  for run in outcome.record.runs:
    told = story(folder / run.workdir)
    assert (told["status"], told["step"]) == ("finished", 6)
  config, params, _ = load_model(folder / outcome.record.runs[3].workdir)
  assert (config.seed, config.data.seed, config.model.residual) == (
    1,
    1,
    "post",
  )
  assert params


def test_seeds_differ_and_arms_of_a_seed_see_the_same_rows(done):
  _, folder, outcome = done

  def rows(arm, seed):
    lines = (folder / f"runs/{arm}/seed={seed}/metrics.jsonl").read_text()
    found = [json.loads(line) for line in lines.splitlines()]
    return [line["batch"] for line in found if "batch" in line]

  assert rows("a", 0) == rows("b", 0) != rows("a", 1) == rows("b", 1)
  assert outcome.record.runs[0].final != outcome.record.runs[1].final


def test_what_has_finished_is_not_trained_again(done, monkeypatch):
  file, folder, outcome = done
  before = {name: (folder / name).read_bytes() for name in OUTPUTS}
  monkeypatch.setattr(runs, "train_groups", None)
  again = ablate(file, folder, options=Options(seeds=2))
  assert again.record == outcome.record
  assert {name: (folder / name).read_bytes() for name in OUTPUTS} == before


def test_the_record_that_is_written_is_the_one_that_is_read(done):
  _, folder, outcome = done
  assert records.read(folder) == outcome.record


def test_a_seed_more_adds_only_its_runs(done, tmp_path, monkeypatch):
  file, folder, _ = done
  shutil.copytree(folder, tmp_path / "more")
  asked = []
  monkeypatch.setattr(
    runs, "train_groups", lambda s, f, groups, *a, **k: asked.extend(groups)
  )
  outcome = ablate(file, tmp_path / "more", options=Options(seeds=3))
  assert [(g.arm, g.seeds) for g in asked] == [("a", (2,)), ("b", (2,))]
  assert outcome.waiting == 2


def test_a_folder_of_another_sweep_is_refused(done, config_file):
  _, folder, _ = done
  other = config_file(
    '{"arms": {"a": {}, "b": {"model.residual": "sandwich"}}, "axes": AXES}'
  )
  with pytest.raises(UserError) as error:
    ablate(other, folder, options=Options(seeds=2))
  assert "holds the results of another sweep" in str(error.value)
  assert "model.residual ('post' there, 'sandwich' here)" in str(error.value)


def test_a_folder_of_other_measurements_is_refused(done):
  """They train alike, and their hashes are one."""
  file, folder, _ = done
  given = {"data.eval_lengths": (16,)}
  with pytest.raises(UserError, match=r"another sweep: arm .*eval_lengths"):
    ablate(file, folder, given, Options(seeds=2))


def test_a_run_of_another_config_is_refused_though_no_plan_tells(
  done, config_file, tmp_path
):
  _, folder, _ = done
  shutil.copytree(folder, tmp_path / "s")
  (tmp_path / "s/sweep.json").unlink()
  other = config_file(
    '{"arms": {"a": {}, "b": {"model.residual": "sandwich"}}, "axes": AXES}'
  )
  with pytest.raises(UserError) as error:
    ablate(other, tmp_path / "s", options=Options(seeds=2))
  assert "runs/b/seed=0 holds the run of another config" in str(error.value)
  assert "model.residual ('post' there, 'sandwich' here)" in str(error.value)


def test_other_code_is_refused_but_on_demand(done, tmp_path, monkeypatch):
  file, folder, _ = done
  shutil.copytree(folder, tmp_path / "old")
  monkeypatch.setattr(runs, "code_version", lambda: "ablax 9.9 source 1")
  with pytest.raises(UserError, match="was begun with other code"):
    ablate(file, tmp_path / "old", options=Options(seeds=2))
  outcome = ablate(file, tmp_path / "old", options=Options(seeds=2, mixed=True))
  assert outcome.record is not None


def test_a_mixed_table_says_so(done, tmp_path):
  file, folder, _ = done
  shutil.copytree(folder, tmp_path / "mixed")
  place = tmp_path / "mixed/runs/b/seed=1/run.json"
  run = json.loads(place.read_text())
  place.write_text(json.dumps(run | {"data_fingerprint": "f00"}))
  with pytest.raises(UserError, match="differ in their data fingerprint"):
    ablate(file, tmp_path / "mixed", options=Options(seeds=2))
  ablate(file, tmp_path / "mixed", options=Options(seeds=2, mixed=True))
  assert "Compared on demand" in (tmp_path / "mixed/report.md").read_text()
  assert "Compared on demand" in (tmp_path / "mixed/table.tex").read_text()


@pytest.mark.parametrize("text", ["{", "", "[]", '{"name": "x"}'])
def test_a_truncated_plan_is_named_and_nothing_is_lost(done, tmp_path, text):
  file, folder, outcome = done
  shutil.copytree(folder, tmp_path / "cut")
  plan = tmp_path / "cut/sweep.json"
  plan.write_text(text)
  with pytest.raises(UserError, match=r"sweep.json is cut off or no sweep's"):
    ablate(file, tmp_path / "cut", options=Options(seeds=2))
  plan.unlink()  # as the message says
  again = ablate(file, tmp_path / "cut", options=Options(seeds=2))
  assert again.record == outcome.record


def test_a_truncated_result_is_made_again_from_the_run(done, tmp_path):
  file, folder, outcome = done
  shutil.copytree(folder, tmp_path / "cut")
  (tmp_path / "cut/runs/a/seed=0/run.json").write_text('{"arm": "a", "se')
  again = ablate(file, tmp_path / "cut", options=Options(seeds=2))
  assert same_but_timings(again.record, outcome.record)


def test_one_seed_is_refused_where_a_test_is_asked_for(done, tmp_path):
  with pytest.raises(UserError, match="gives no test a spread"):
    ablate(done[0], tmp_path, options=Options(seeds=1))
  assert not list(tmp_path.iterdir())


def test_resume_refuses_to_begin(done, tmp_path):
  with pytest.raises(UserError, match="holds no sweep to go on with"):
    ablate(done[0], tmp_path / "new", options=Options(resume=True))
  assert not (tmp_path / "new").exists()


def test_shards_do_all_jobs_once_and_a_shared_folder_joins_them(
  done, tmp_path, monkeypatch
):
  file, folder, outcome = done
  asked = {}

  def pretend(sweep, here, groups, *a, share, **k):
    """As if each run had been trained here."""
    asked[here.name] = [(g.arm, g.seeds) for g in groups]
    for group in groups:
      for place in group.workdirs():
        (here / place).mkdir(parents=True)
        shutil.copy(folder / place / "run.json", here / place)
        share.put_result(place)

  monkeypatch.setattr(runs, "train_groups", pretend)
  found = [
    ablate(
      file,
      tmp_path / str(i),
      options=Options(seeds=2, shard=f"{i}/3", share="memory://sweep"),
    )
    for i in range(3)
  ]
  jobs = [job for groups in asked.values() for job in groups]
  assert sorted(jobs) == [(arm, (s,)) for arm in "ab" for s in (0, 1)]
  assert [outcome.waiting for outcome in found] == [2, 1, 0]
  assert found[-1].record == outcome.record
  # Whoever comes later finds all of it there.
  monkeypatch.setattr(runs, "train_groups", None)
  late = ablate(
    file, tmp_path / "9", options=Options(seeds=2, share="memory://sweep")
  )
  assert late.record == outcome.record


def test_what_failed_here_and_finished_elsewhere_has_finished(
  done, tmp_path, monkeypatch
):
  file, folder, outcome = done
  failed = dataclasses.replace(outcome.record.runs[0], status="failed")
  shutil.copytree(folder, tmp_path / "here")
  write_result(tmp_path / "here" / failed.workdir, failed)
  for run in outcome.record.runs:
    write_result(tmp_path / "share" / run.workdir, run)
  monkeypatch.setattr(runs, "train_groups", None)
  share = str(tmp_path / "share")
  again = ablate(file, tmp_path / "here", options=Options(seeds=2, share=share))
  assert again.record == outcome.record


def test_a_sweep_begins_on_a_drive_without_links(done, tmp_path, monkeypatch):
  def refuse(*names):
    raise OSError(errno.ENOTSUP, "Operation not supported")

  monkeypatch.setattr(plans.os, "link", refuse)
  monkeypatch.setattr(runs, "train_groups", lambda *a, **k: None)
  assert ablate(done[0], tmp_path, options=Options(seeds=2)).waiting == 4
  assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "1", "a/b", "1/2/3"])
def test_a_shard_that_cannot_be_is_refused(done, tmp_path, shard):
  with pytest.raises(UserError, match="must be i/n with 0 <= i < n"):
    ablate(done[0], tmp_path, options=Options(seeds=2, shard=shard))


CRASH = '''
"""An optimizer that brings its process down (nobody)."""
import os
import sys

from ablax.train.optimizers import OPTIMIZERS
from ablax.train.optimizers.sgd import Options, sgd


@OPTIMIZERS.register("crash")
def crash(options, specs):
  # What only counts sizes goes on.
  if sys.argv[0].endswith("worker.py"):
    os.kill(os.getpid(), 9)
  return sgd(options, specs)
'''


def test_of_shards_that_time_at_once_the_first_counts(
  config_file, tmp_path, monkeypatch
):
  file = config_file(
    '{"arms": {"a": {}, "b": {"model.residual": "post"}}, "axes": AXES,'
    ' "budget": "time", "solve": "steps"}'
  )
  asked = {}

  def time_while_another_begins(configs):
    if not (tmp_path / plans.FILE).exists():
      theirs = load_sweep(file).with_solved({"b": {"steps": 5}})
      plans.begin(tmp_path, plans.make_plan(theirs, 2, 1, 1, code_version()))
    return {"a": 1.0, "b": 2.0}

  monkeypatch.setattr(timing, "update_seconds", time_while_another_begins)
  monkeypatch.setattr(
    runs, "train_groups", lambda sweep, *a, **k: asked.update(sweep=sweep)
  )
  ablate(file, tmp_path, options=Options(seeds=2))
  assert asked["sweep"]["b"].config.steps == 5


def test_an_arm_that_fails_is_recorded_and_the_rest_go_on(
  config_file, tmp_path
):
  plugin = tmp_path / "crash.py"
  plugin.write_text(CRASH)
  file = config_file(
    '{"arms": {"good": {}, "dies": {"opt.name": "crash"},'
    ' "diverges": {"opt.lr": 1e38}}, "axes": ("opt",)}'
  )
  given = {"plugins": (str(plugin),)}
  outcome = ablate(file, tmp_path / "s", given, Options(seeds=2))
  found = {(r.arm, r.seed): r for r in outcome.record.runs}
  assert [found["good", s].status for s in (0, 1)] == ["finished"] * 2
  assert [found["dies", s].status for s in (0, 1)] == ["failed"] * 2
  assert "SIGKILL" in found["dies", 0].error
  assert "logs/worker-" in found["dies", 0].error
  assert [found["diverges", s].status for s in (0, 1)] == ["diverged"] * 2
  assert "Diverged" in found["diverges", 0].error
  assert outcome.failed == 2
  report = (tmp_path / "s/report.md").read_text()
  assert "SIGKILL" in report
  assert "diverged" in report


def command(file, folder, *more):
  return [
    sys.executable,
    *("-m", "ablax.ablate", f"--config={file}", f"--workdir={folder}"),
    *("--seeds=2", *more),
  ]


def test_a_mistake_is_one_line_and_exit_code_2(done, tmp_path):
  ran = subprocess.run(
    command(done[0], tmp_path, "--arms=c", "--dry-run"),
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 2
  assert ran.stderr == "error: --arms: 'c' is no arm; there is: a, b\n"
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("main", "argv", "message"),
  [
    (commands.main, ["--config=x", "--seeds=x"], "--seeds: 'x' is not a whole"),
    (commands.main, ["--config=x", "--seed=3"], "unrecognized arguments"),
    (commands.main, ["--seeds=3"], "--config=FILE is missing"),
    (report.main, [], "the following arguments are required: DIR"),
    (report.main, ["x", "--goal=up"], "--goal: invalid choice: 'up'"),
    (diff.main, ["x"], "the following arguments are required: RUN_B"),
  ],
)
def test_a_flag_that_cannot_be_is_a_users_mistake(main, argv, message):
  with pytest.raises(UserError, match=message) as error:
    main(argv)
  assert "\n" not in str(error.value)


def test_a_metric_that_no_run_has_ends_the_sweep_early_and_can_be_mended(
  done, config_file, tmp_path
):
  file, folder, outcome = done
  shutil.copytree(folder, tmp_path / "s")
  wrong = config_file(
    '{"arms": {"a": {}, "b": {"model.residual": "post"}}, "axes": AXES,'
    ' "metric": "heldout/los"}'
  )
  with pytest.raises(UserError, match="in no run; did you mean 'heldout/loss'"):
    ablate(wrong, tmp_path / "s", options=Options(seeds=2))
  again = ablate(file, tmp_path / "s", options=Options(seeds=2))
  assert again.record == outcome.record


def test_a_dry_run_prints_the_arms_and_writes_nothing(done, tmp_path):
  ran = subprocess.run(
    command(done[0], tmp_path / "x", "--dry-run"),
    capture_output=True,
    text=True,
    check=True,
  )
  for text in ("2 arms x 2 seeds", "model.residual=post", "the baseline"):
    assert text in ran.stdout
  assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_sweep_killed_twice_gives_the_same_table_byte_for_byte(
  done, tmp_path
):
  file, folder, outcome = done
  again = tmp_path / "again"
  logs = again / "logs"
  for n_runs in (0, 1):
    process = subprocess.Popen(command(file, again), start_new_session=True)
    # In the middle of a run: it has begun, and is not done.
    deadline = time.time() + 300
    while time.time() < deadline:
      ended = len(list(again.glob("runs/*/*/run.json")))
      going = [
        f
        for f in again.glob("runs/*/*/metrics.jsonl")
        if not (f.parent / "run.json").exists() and f.stat().st_size
      ]
      if ended >= n_runs and going:
        break
      time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
  # Nothing goes on behind the back of the one that was killed.
  time.sleep(2)
  sizes = [f.stat().st_size for f in pathlib.Path(logs).iterdir()]
  time.sleep(2)
  assert [f.stat().st_size for f in pathlib.Path(logs).iterdir()] == sizes
  subprocess.run(command(file, again), check=True)
  assert (again / "table.tex").read_bytes() == (
    folder / "table.tex"
  ).read_bytes()
  assert same_but_timings(records.read(again), outcome.record)
