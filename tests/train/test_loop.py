"""The main job, end to end and small: what it leaves, and what it refuses."""

import errno
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.data.pipeline import Batches
from ablax.errors import UserError
from ablax.train import config as configs
from ablax.train import loop as loops
from ablax.train.checkpoint import Checkpoints, load_model, load_state
from ablax.train.guard import Diverged, LossWatch
from ablax.train.logs import Logs, read_lines, read_metrics
from ablax.train.loop import Loop, train
from ablax.train.state import fingerprints

ROOT = pathlib.Path(__file__).resolve().parents[2]
AVERAGE = str(ROOT / "examples/plugins/average.py")


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
  """A finished run: its workdir, config and result."""
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  config = small(eval__every=2, eval__prompts=("the ",), eval__sample_tokens=5)
  result = train(config, workdir, name="small")
  return workdir, config, result


def test_a_run_leaves_all_that_is_promised(finished):
  workdir, config, result = finished
  record = json.loads((workdir / "config.json").read_text())
  assert record["hash"] == config.hash
  assert record["code"]["ablax"] and record["data_fingerprint"]
  assert configs.from_dict(record["config"]) == config
  assert (workdir / "loss.png").read_bytes().startswith(b"\x89PNG")
  assert list((workdir / "tensorboard").glob("events*"))
  assert sorted(p.name for p in (workdir / "checkpoints").iterdir())
  lines = read_metrics(workdir)
  assert [x["step"] for x in lines if "loss" in x] == [1, 2, 3, 4, 5, 6]
  heldout = [x for x in lines if "heldout/bits_per_byte" in x]
  assert [x["step"] for x in heldout] == [2, 4, 6]
  assert (
    result.heldout["bits_per_byte"] == (heldout[-1]["heldout/bits_per_byte"])
  )
  wanted = {"loss", "lr", "grad_norm", "tokens_per_s", "peak_fraction"}
  wanted |= {"input_wait_s", "input_stalls", "batch", "tokens", "accuracy"}
  assert wanted <= set(lines[0])


def test_bits_per_byte_is_what_scoring_each_heldout_row_gives(finished):
  """An independent sum: log-probabilities of the training forward."""
  from ablax.data.pipeline import heldout_batches
  from ablax.data.prepare import prepare
  from ablax.models import lm

  workdir, config, result = finished
  resolved, params, _ = load_model(workdir)
  prepared = prepare(config.data, progress=False)
  bits = 0.0
  for batch in heldout_batches(prepared, config.data):
    logits = np.asarray(
      lm.apply(
        resolved.model,
        params,
        *map(jnp.asarray, (batch["tokens"], batch["positions"])),
        jnp.asarray(batch["segment_ids"]),
      ).logits(),
      np.float64,
    )
    log_z = np.log(np.exp(logits).sum(-1))
    target = np.take_along_axis(logits, batch["targets"][..., None], -1)[..., 0]
    bits += ((log_z - target) * batch["weights"]).sum() / np.log(2)
  want = bits / prepared.heldout_bytes
  # fp32 logits, some 500 tokens: 1e-6 of the sum.
  assert result.heldout["bits_per_byte"] == pytest.approx(want, rel=1e-5)


def test_a_finished_run_can_be_run_again_and_says_the_same(finished):
  workdir, config, result = finished
  before = read_metrics(workdir)
  again = train(config, workdir, name="small")
  assert again.heldout == result.heldout
  assert len(read_metrics(workdir)) == len(before)
  assert [x["step"] for x in read_metrics(workdir) if "loss" in x] == [
    x["step"] for x in before if "loss" in x
  ]


def test_an_evaluation_that_was_nan_is_read_back_as_nan(
  finished, tmp_path, small, capsys
):
  workdir, config, _ = finished
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  lines = read_metrics(copy)
  for line in lines:
    line.update({k: None for k in line if k.startswith("heldout/")})
  (copy / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
  again = train(config, copy, name="small")
  assert math.isnan(again.heldout["bits_per_byte"])
  assert "this model   nan" in capsys.readouterr().out


@pytest.fixture
def watched(monkeypatch):
  """A function from held-out numbers to the list of the steps then saved."""

  def watch(*heldout):
    saved, values = [], iter(heldout)
    names = ("loss", "bits_per_byte")
    real = Loop.save
    monkeypatch.setattr(
      loops, "evaluate", lambda *_: [dict.fromkeys(names, next(values))]
    )
    monkeypatch.setattr(
      Loop, "save", lambda self: (saved.append(self.step), real(self))[1]
    )
    return saved

  return watch


def test_after_an_evaluation_that_is_nan_the_best_is_still_known(
  watched, small, tmp_path
):
  saved = watched(3.0, math.nan, 4.0, 3.5, 2.0, 5.0)
  train(small(eval__every=1, checkpoint__every=0), tmp_path / "run")
  assert saved == [1, 5, 6]


def test_a_run_that_goes_on_knows_its_best_evaluation(
  watched, small, tmp_path, monkeypatch
):
  config = small(steps=5, eval__every=1, checkpoint__every=0)
  real = Loop._update

  def interrupted(self, before):
    if self.step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return real(self, before)

  saved = watched(2.0, 3.0, 3.0)
  with monkeypatch.context() as patch:
    patch.setattr(Loop, "_update", interrupted)
    assert train(config, tmp_path / "run").stopped == "SIGTERM"
  assert saved == [1, 3]
  saved = watched(2.5, 4.0)
  train(config, tmp_path / "run")
  assert saved == [5]


def test_a_checkpoint_whose_evaluation_is_nan_is_not_kept_as_the_best(
  watched, small, tmp_path
):
  watched(3.0, math.nan, 4.0)
  train(small(eval__every=2, checkpoint__keep=1), tmp_path / "run")
  kept = {int(p.name) for p in (tmp_path / "run/checkpoints").glob("[0-9]*")}
  assert kept == {2, 6}


def test_a_run_whose_last_save_fails_is_not_said_to_have_finished(
  small, tmp_path, monkeypatch
):
  closed = []
  real = Batches.close

  def full(self):
    raise OSError(errno.ENOSPC, "No space left")

  monkeypatch.setattr(Checkpoints, "wait", full)
  monkeypatch.setattr(
    Batches, "close", lambda self: (closed.append(self), real(self))
  )
  with pytest.raises(OSError, match="No space left"):
    train(small(steps=1, opt__warmup_steps=0), tmp_path / "run")
  events = read_lines(tmp_path / "run/events.jsonl")
  assert [e["event"] for e in events] == ["start", "failed"]
  assert closed, "its reading threads go on"


def test_how_it_is_run_may_change_but_not_what(finished, small):
  workdir, _, _ = finished
  other = {
    "eval__every": 2,
    "eval__prompts": ("the ",),
    "eval__sample_tokens": 5,
  }
  train(small(**other, log__every=3, checkpoint__keep=1), workdir)
  with pytest.raises(UserError, match=r"opt.lr \(0.001 there, 0.01 here\)"):
    train(small(**other, opt__lr=0.01), workdir)


def test_the_best_evaluation_is_saved_whenever_it_comes(small, tmp_path):
  config = small(
    eval__every=3,
    checkpoint__every=2,
    checkpoint__keep=1,
    opt__lr=3e-2,
    opt__warmup_steps=0,
  )
  train(config, tmp_path / "run")
  scores = {
    x["step"]: x["heldout/bits_per_byte"]
    for x in read_metrics(tmp_path / "run")
    if "heldout/bits_per_byte" in x
  }
  assert set(scores) == {3, 6}
  best = min(scores, key=scores.__getitem__)
  load_state(tmp_path / "run", best)


def test_parameters_in_bfloat16_stay_so_and_restore(small, tmp_path):
  config = small(model__param_dtype="bfloat16", opt__accum_steps=2)
  train(config, tmp_path / "run")
  state = load_state(tmp_path / "run")[1]
  params = {str(a.dtype) for a in jax.tree.leaves(state.params)}
  moments = {str(a.dtype) for a in jax.tree.leaves(state.opt_state)}
  assert params == {"bfloat16"} and moments == {"float32", "int32"}


def test_a_broken_tokenizer_folder_is_not_taken_for_the_tokenizer(tmp_path):
  from ablax.train.workdir import keep_tokenizer

  class Killed:
    def save(self, folder):
      (folder / "model").write_text("ha")
      raise KeyboardInterrupt

  class Whole:
    def save(self, folder):
      (folder / "model").write_text("whole")

  with pytest.raises(KeyboardInterrupt):
    keep_tokenizer(tmp_path, Killed())
  keep_tokenizer(tmp_path, Whole())
  assert (tmp_path / "tokenizer/model").read_text() == "whole"


def test_a_run_on_other_data_is_refused(small, tmp_path, corpus):
  texts = tmp_path / "texts"
  texts.mkdir()
  for i in range(30):
    (texts / f"{i}.txt").write_text(f"some text number {i} " * 20)
  config = small(steps=1, opt__warmup_steps=0)
  values = {"data__opts__text__paths": (str(texts),)}
  config = small(steps=1, opt__warmup_steps=0, **values)
  train(config, tmp_path / "run")
  (texts / "3.txt").write_text("another text " * 20)
  with pytest.raises(UserError, match="was trained on other data"):
    train(config, tmp_path / "run")


def test_another_tokenizer_does_not_fit_a_checkpoint(finished, tmp_path):
  workdir, _, _ = finished
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  record = json.loads((copy / "config.json").read_text())
  record["tokenizer"] = "0" * 64
  (copy / "config.json").write_text(json.dumps(record))
  with pytest.raises(UserError, match="does not fit the checkpoint"):
    load_model(copy)


def test_a_warm_start_takes_the_weights_and_nothing_else(
  finished, small, tmp_path
):
  workdir, _, _ = finished
  config = small(
    steps=1, opt__warmup_steps=0, opt__lr=0.0, init_from=str(workdir)
  )
  result = train(config, tmp_path / "warm")
  assert result.step == 1
  ours, theirs = load_state(tmp_path / "warm")[1], load_state(workdir)[1]
  assert fingerprints(ours.params) == fingerprints(theirs.params)
  other = small(model__d_model=16, init_from=str(workdir))
  with pytest.raises(UserError, match="use the same model"):
    train(other, tmp_path / "other")
  with pytest.raises(UserError, match="holds no run"):
    train(small(init_from=str(tmp_path / "none")), tmp_path / "nothing")


def test_a_mixer_from_a_file_outside_the_package_trains(small, tmp_path):
  config = small(
    plugins=(AVERAGE,),
    model__mixer="average",
    model__opts__average__decay=0.8,
    eval__prompts=("the ",),
    eval__sample_tokens=3,
  )
  result = train(config, tmp_path / "run")
  losses = [x["loss"] for x in read_metrics(tmp_path / "run") if "loss" in x]
  assert result.step == 6 and losses[-1] < losses[0]


def test_a_nan_stops_the_run_and_keeps_the_evidence(
  small, tmp_path, monkeypatch
):
  from ablax.train import loop

  real = loop.to_device
  calls = []

  def poisoned(batch, shardings):
    calls.append(batch)
    if len(calls) == 5:
      batch = {**batch, "weights": batch["weights"] * np.nan}
    return real(batch, shardings)

  monkeypatch.setattr(loop, "to_device", poisoned)
  with pytest.raises(Diverged, match=r"step 5: the loss is nan") as caught:
    train(small(), tmp_path / "run")
  assert str(tmp_path / "run/bad/5/batch.npz") in str(caught.value)
  kept = np.load(tmp_path / "run/bad/5/batch.npz")
  np.testing.assert_array_equal(kept["tokens"], calls[4]["tokens"])
  good = tmp_path / "run/bad/5/checkpoints/4"
  assert good.is_dir() and str(good) in str(caught.value)
  # What is left to go on from is the good one, not the poisoned state.
  assert int(load_state(tmp_path / "run")[1].step) == 4


def test_a_loss_spike_is_kept_and_said_and_training_goes_on(tmp_path):
  watch = LossWatch(tmp_path, spike=1.0, good_checkpoint=lambda: None)
  batch = {"tokens": np.arange(4)}
  said = [watch.check(i, 2.0, 1.0, batch) for i in range(30)]
  assert not any(said)
  warning = watch.check(30, 3.5, 1.0, batch)
  assert "jumped to 3.500 from 2.000" in warning
  assert (tmp_path / "bad/30/batch.npz").is_file()


def test_lines_after_the_restored_step_are_dropped(tmp_path):
  text = '{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 3, "lo'
  (tmp_path / "metrics.jsonl").write_text(text)
  logs = Logs(tmp_path, step=1)
  logs.write(2, {"loss": 2.5})
  logs.close()
  assert read_metrics(tmp_path) == [
    {"step": 1, "loss": 3},
    {"step": 2, "loss": 2.5},
  ]


def test_a_prompt_longer_than_the_context_is_refused(finished):
  from ablax.infer.sampling import Sampling, generate

  config, params, tokenizer = load_model(finished[0])
  with pytest.raises(UserError, match=r"model.max_len=64"):
    generate(config.model, params, tokenizer, ["x" * 64], Sampling())


@pytest.fixture
def small_file(tmp_path, overrides):
  """The small config as a file that a process of its own can read."""

  def write(**changes):
    config = configs.resolve(
      __import__("ablax.configs.base", fromlist=["base"]).get_config(),
      overrides(**changes),
    )
    file = tmp_path / "small.json"
    file.write_text(json.dumps({"config": config.as_dict()}))
    return file

  return write


def start(file, workdir):
  flags = "--xla_force_host_platform_device_count=1"
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "ablax.train",
      f"--config={file}",
      f"--workdir={workdir}",
    ],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"XLA_FLAGS": flags},
  )


def test_sigterm_saves_exits_with_0_and_the_same_command_goes_on(
  small_file, tmp_path
):
  file = small_file(
    steps=100_000, checkpoint__every=0, opt__schedule="constant"
  )
  workdir = tmp_path / "run"
  run = start(file, workdir)
  while not any(x["step"] >= 5 for x in read_metrics(workdir)):
    assert run.poll() is None, run.communicate()[0]
    time.sleep(0.05)
  run.send_signal(signal.SIGTERM)
  output, _ = run.communicate()
  assert run.returncode == 0, output
  assert "SIGTERM: saved step" in output and "run the same command" in output
  step = int(load_state(workdir)[1].step)
  assert step >= 5 and f"saved step {step} in" in output
  again = start(file, workdir)
  while not any(x["step"] >= step + 2 for x in read_metrics(workdir)):
    assert again.poll() is None, again.communicate()[0]
    time.sleep(0.05)
  again.send_signal(signal.SIGTERM)
  output, _ = again.communicate()
  assert again.returncode == 0 and f"at step {step}" in output
  steps = [x["step"] for x in read_metrics(workdir)]
  assert steps == list(range(1, len(steps) + 1))


def test_a_dry_run_prints_the_plan_and_writes_nothing(
  tmp_path, monkeypatch, capsys
):
  from ablax.train.__main__ import main

  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  overrides = ["--config.data.batch_size=8", "--config.mesh.data=8"]
  code = main(["--config=configs/lm/tiny.py", "--dry-run", *overrides])
  out = capsys.readouterr().out
  assert code == 0
  for word in ("parameters", "FLOPs per token", "optimizer memory"):
    assert word in out
  for word in (
    "activation memory",
    "decode-state memory",
    "workdir: runs/tiny-",
  ):
    assert word in out
  assert not list(tmp_path.iterdir())
