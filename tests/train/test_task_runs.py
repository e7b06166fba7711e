"""Runs on synthetic tasks: what they leave; runs on text stay as they are."""

import dataclasses
import functools
import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.data.pipeline import heldout_task_batches
from ablax.errors import UserError
from ablax.infer.sampling import Sampling, generate
from ablax.models import lm
from ablax.train import evaluate
from ablax.train.checkpoint import load_model, load_state
from ablax.train.config import from_dict, load, resolve
from ablax.train.identity import (
  ADDED_LATER,
  HOW,
  UNDECAYED,
  UNDECAYED_BEFORE,
)
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.state import fingerprints
from ablax.train.story import story

SMALL = {
  "steps": 6,
  "model.d_model": 32,
  "model.n_layers": 2,
  "model.n_heads": 4,
  "model.ff_dim": 48,
  "model.max_len": 64,
  "data.task": "mqar",
  "data.seq_len": 21,
  "data.batch_size": 8,
  "data.opts.mqar.symbols": 30,
  "data.opts.mqar.n_pairs": 3,
  "data.opts.mqar.heldout_rows": 20,
  "data.opts.mqar.eval_lengths": (33, 16),
  "eval.every": 3,
  "checkpoint.every": 2,
  "log.every": 1,
  "log.progress": False,
  "mesh.data": 1,
}


def task_config(**changes):
  changes = {k.replace("__", "."): v for k, v in changes.items()}
  return resolve(base.get_config(), SMALL | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  config = task_config(eval__prompts=("3 17",), eval__sample_tokens=3)
  return workdir, config, train(config, workdir, name="mqar")


def expected(config, workdir, length):
  """Loss, accuracy and exact from all logits, in float64."""
  resolved, params, _ = load_model(workdir)
  nats, right, whole = [], [], []
  for batch in heldout_task_batches(config.data, length):
    names = ("tokens", "positions", "segment_ids")
    arrays = [jnp.asarray(batch[name]) for name in names]
    logits = lm.apply(resolved.model, params, *arrays).logits()
    logits = np.asarray(logits, np.float64)
    log_z = np.log(np.exp(logits).sum(-1))
    for b in range(len(logits)):
      asked = np.flatnonzero(batch["weights"][b])
      if not len(asked):
        continue
      targets = batch["targets"][b, asked]
      nats += list(log_z[b, asked] - logits[b, asked, targets])
      hits = logits[b, asked].argmax(-1) == targets
      right += list(hits)
      whole.append(hits.all())
  assert len(whole) == config.data.task_options.heldout_rows
  return {
    k: np.mean(v)
    for k, v in zip(
      ("loss", "accuracy", "exact"), (nats, right, whole), strict=True
    )
  }


@pytest.mark.parametrize(
  ("prefix", "length"), [("", 21), ("len=16/", 16), ("len=33/", 33)]
)
def test_an_evaluation_says_what_scoring_each_row_says(
  finished, prefix, length
):
  workdir, config, result = finished
  for name, value in expected(config, workdir, length).items():
    # fp32 logits of a small model.
    assert result.heldout[prefix + name] == pytest.approx(value, rel=1e-5)


def test_heldout_rows_are_drawn_once_for_all_seeds_and_any_lengths(monkeypatch):
  drawn = []
  real = evaluate.heldout_task_batches

  def draw(config, length):
    drawn.append(length)
    return real(config, length)

  monkeypatch.setattr(evaluate, "heldout_task_batches", draw)
  lengths = tuple(range(22, 32))
  options = {"data.opts.mqar.eval_lengths": lengths}
  first, *others = (
    task_config(**options, data__seed=seed).data for seed in (71, 72, 71)
  )
  rows = evaluate.task_batches(first)
  assert list(rows) == [21, *lengths]
  for other in others:
    assert evaluate.task_batches(other) is rows
  assert drawn == [21, *lengths]


def test_a_run_leaves_no_word_of_bytes(finished, capsys):
  workdir, config, _ = finished
  lines = read_metrics(workdir)
  names = {name for line in lines for name in line}
  assert {"heldout/loss", "heldout/exact", "heldout/len=33/accuracy"} <= names
  assert not any("byte" in name for name in names)
  assert [x["step"] for x in lines if "heldout/loss" in x] == [3, 6]
  assert lines[0]["tokens"] == 8 * 3  # the answers of a batch
  assert (workdir / "loss.png").read_bytes().startswith(b"\x89PNG")
  train(config, workdir, name="mqar")  # says it again
  out = capsys.readouterr().out
  assert "held-out rows of mqar (20 each)" in out and "length 33" in out
  assert "byte" not in out.replace("bytes of", "") and "gzip" not in out
  assert "'3 17' goes on" in out


def test_the_best_loss_is_kept_without_being_asked_for(finished):
  config = finished[1]
  assert config.checkpoint.best == "loss"
  assert task_config().eval.prompts == ()
  assert load("configs/lm/tiny.py").checkpoint.best == "bits_per_byte"


def test_the_story_of_a_run_names_the_task_and_its_accuracy(finished, capsys):
  from ablax.info import main

  told = story(finished[0])
  assert told["source"] == "task mqar" and "tokenizer" not in told
  changes = told["changes"]
  assert changes["data.opts.mqar.symbols"] == 30
  assert not {"checkpoint.best", "data.tokenizer"} & set(changes)
  assert main([str(finished[0])]) == 0
  out = capsys.readouterr().out
  assert "accuracy" in out and "task mqar" in out and "per byte" not in out
  assert main([str(finished[0]), str(finished[0])]) == 0
  assert "bits/byte" not in capsys.readouterr().out


def test_a_model_continues_a_prompt_of_symbols(finished):
  config, params, tokenizer = load_model(finished[0])
  sampling = Sampling(max_tokens=4, temperature=0.0)
  (done,) = generate(config.model, params, tokenizer, [[3, 17, 5]], sampling)
  assert done.text.split() == [str(t) for t in done.tokens if t]
  for prompt in ("31", "-1", "x", "٣"):
    with pytest.raises(UserError, match="is no symbol of this task"):
      tokenizer.encode(prompt)
  assert tokenizer.encode(tokenizer.decode([3, 0, 30])) == [3, 0, 30]


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(finished, tmp_path):
  """Stopped after 4 updates, at a checkpoint, as a kill would leave it."""
  import shutil

  workdir, config, result = finished
  other = tmp_path / "again"
  shutil.copytree(workdir, other)
  shutil.rmtree(other / "checkpoints/6")
  again = train(config, other, name="mqar")
  assert again.heldout == result.heldout
  a, b = load_state(workdir)[1], load_state(other)[1]
  assert fingerprints(a) == fingerprints(b)
  keys = ("step", "loss", "batch", "heldout/loss")
  lines = [
    [[x.get(k) for k in keys] for x in read_metrics(w)]
    for w in (workdir, other)
  ]
  assert lines[0] == lines[1]


def test_devices_do_not_change_an_evaluation(finished, tmp_path):
  config = task_config(mesh__data=4)
  result = train(config, tmp_path / "run")
  for name, value in finished[2].heldout.items():
    # Sums of a few answers in another order.
    assert result.heldout[name] == pytest.approx(value, rel=1e-4)


def test_the_data_proof_holds_for_a_task():
  from ablax.train.proofs import find

  checks = list(find("data")(task_config(), batches=2))
  assert len(checks) == 8 and all(check.holds for check in checks)


def test_a_dry_run_and_prepare_say_what_there_is(tmp_path, monkeypatch, capsys):
  from ablax.prepare import main as prepare_main
  from ablax.train.__main__ import main

  monkeypatch.chdir(tmp_path)
  file = "--config=configs/tasks/mqar.py"
  overrides = ["--config.data.batch_size=8", "--config.mesh.data=8"]
  assert main([file, "--dry-run", *overrides]) == 0
  assert "FLOPs per token" in capsys.readouterr().out
  with pytest.raises(UserError, match=r"data.task='mqar' makes its rows"):
    prepare_main([file])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("data.source", "text"),
    ("data.tokenizer", "bytes"),
    ("data.clean", ("exact",)),
    ("data.vocab_size", 300),
    ("data.heldout_bytes", 9),
  ],
)
def test_a_key_of_text_is_refused_beside_a_task(key, value):
  with pytest.raises(UserError) as caught:
    resolve(base.get_config(), {"data.task": "mqar", key: value})
  name = key.replace("source", "mixture")
  assert f"{name}=" in str(caught.value)
  assert "is of text, and data.task='mqar'" in str(caught.value)


def test_an_unknown_task_is_refused_with_the_nearest():
  with pytest.raises(UserError, match="did you mean 'mqar'"):
    resolve(base.get_config(), {"data.task": "mqra"})
  with pytest.raises(UserError, match="'mqar' is not chosen"):
    resolve(base.get_config(), {"data.opts.mqar.n_pairs": 3})


def test_a_text_run_from_before_the_key_keeps_its_hash_and_goes_on():
  config = resolve(base.get_config())
  values = config.as_dict()
  for key in ADDED_LATER:  # as it was
    *path, name = key.split(".")
    # Options are there of chosen entries alone.
    functools.reduce(lambda n, k: n.get(k, {}), path, values).pop(name, None)
  del values["model"]["opts"]["rms_norm"]  # norms had no options
  assert from_dict(values) == config
  same = {k: v for k, v in values.items() if k not in HOW}
  del same["data"]["prefetch"]
  ((rule, factor), *rest) = same["opt"]["decay_rules"]
  assert rule == UNDECAYED
  same["opt"]["decay_rules"] = [(UNDECAYED_BEFORE, factor), *rest]
  text = json.dumps(same, sort_keys=True)
  assert config.hash == hashlib.sha256(text.encode()).hexdigest()[:10]
  task = task_config()
  other = dataclasses.replace(task.data.opts["mqar"], n_pairs=2)
  opts = {"mqar": dataclasses.asdict(other)}
  again = task.as_dict() | {"data": task.as_dict()["data"] | {"opts": opts}}
  assert from_dict(again).hash != task.hash != config.hash


@pytest.mark.long
@pytest.mark.parametrize("name", ["induction_heads", "mqar"])
def test_a_small_model_learns_what_the_config_says(name, tmp_path):
  config = load(f"configs/tasks/{name}.py", {"mesh.data": 1})
  result = train(config, tmp_path / "run")
  assert result.heldout["accuracy"] > 0.9
