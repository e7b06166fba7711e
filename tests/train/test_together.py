"""Several seeds in one program: the runs that they would be alone."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from test_step import batch

from ablax.errors import UserError
from ablax.train import loop as loops
from ablax.train.accounting import accounts, memory_of
from ablax.train.checkpoint import load_model, load_state
from ablax.train.evaluate import to_device
from ablax.train.guard import Diverged
from ablax.train.logs import read_lines, read_metrics
from ablax.train.loop import train
from ablax.train.program import Program
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints
from ablax.train.step import batch_shardings, make_train_step
from ablax.train.together import check_alike, train_together

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 5)
TIMINGS = {"tokens_per_s", "peak_fraction", "input_wait_s", "input_stalls"}
TIMINGS |= {"time"}

# fp32; the batched products of several runs add up in another order. After 6
# updates the losses of these runs are within 4e-7 of one another; Adam divides
# small gradients by their own size, so that a rounding may grow.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def configs(small):
  def make(**changes):
    changes = {"eval__every": 4, **changes}
    return [small(seed=s, data__seed=s + 7, **changes) for s in SEEDS]

  return make


def folders(folder):
  return [folder / f"seed{seed}" for seed in SEEDS]


def together(configs, folder):
  return train_together(configs, folders(folder), folder / "group")


@pytest.fixture(scope="module")
def grouped(configs, tmp_path_factory):
  """A finished group: its folder, configs and results."""
  folder = tmp_path_factory.mktemp("grouped")
  return folder, configs(), together(configs(), folder)


def numbers(workdir):
  """The log without timings."""
  return [
    {k: v for k, v in line.items() if k not in TIMINGS}
    for line in read_metrics(workdir)
  ]


def events(workdir):
  return read_lines(workdir / "events.jsonl")


def test_each_run_begins_with_the_very_bits_that_it_has_alone(configs):
  setups = [
    make_setup(config.with_vocab(64), jax.devices()[:1]) for config in configs()
  ]
  program = Program.of_several(setups[0], 3)
  states = program.first(setup.init() for setup in setups)
  for state, setup in zip(program.split(states), setups, strict=True):
    assert fingerprints(state) == fingerprints(setup.init())


def test_each_run_is_the_one_it_would_be_alone_to_rounding(grouped, tmp_path):
  folder, configs, _ = grouped
  train(configs[2], tmp_path / "alone")
  ours, lines = numbers(folders(folder)[2]), numbers(tmp_path / "alone")
  assert len(ours) == len(lines) == 8
  for a, b in zip(ours, lines, strict=True):
    assert a.keys() == b.keys()
    assert a.pop("batch", "") == b.pop("batch", "")
    assert a == pytest.approx(b, rel=ROUNDING)
  losses = [numbers(workdir)[-2]["loss"] for workdir in folders(folder)]
  assert len(set(losses)) == 3


def test_what_is_left_is_an_ordinary_run(grouped, capsys):
  folder, configs, results = grouped
  from ablax.info import main as info

  for config, workdir, result in zip(
    configs, folders(folder), results, strict=True
  ):
    assert result.step == 6 and result.workdir == workdir
    record = json.loads((workdir / "config.json").read_text())
    assert record["hash"] == config.hash
    assert (workdir / "loss.png").is_file()
    told = events(workdir)
    assert [e["event"] for e in told] == ["start", "finished"]
    assert told[0]["together"] == list(SEEDS)
    load_model(workdir)
    assert info([str(workdir)]) == 0
    assert "finished" in capsys.readouterr().out
    # The ordinary trainer takes it for its own, and for done.
    before = numbers(workdir)
    again = train(config, workdir)
    assert again.heldout == result.heldout and numbers(workdir) == before


def test_stopped_by_a_signal_it_goes_on_to_the_same_bits(
  grouped, configs, tmp_path, monkeypatch
):
  real = loops.Loop._update

  def interrupted(self, before):
    if self.step == 4:
      os.kill(os.getpid(), signal.SIGTERM)
    return real(self, before)

  with monkeypatch.context() as patch:
    patch.setattr(loops.Loop, "_update", interrupted)
    results = together(configs(), tmp_path)
    assert [(r.stopped, r.step) for r in results] == [("SIGTERM", 5)] * 3
  results = together(configs(), tmp_path)
  for i, (ours, whole) in enumerate(
    zip(folders(tmp_path), folders(grouped[0]), strict=True)
  ):
    assert results[i].heldout == grouped[2][i].heldout
    assert numbers(ours) == numbers(whole)
    states = [load_state(workdir)[1] for workdir in (ours, whole)]
    assert fingerprints(states[0]) == fingerprints(states[1])
    kinds = [e["event"] for e in events(ours)]
    assert kinds == ["start", "stopped", "start", "finished"]


def poison(monkeypatch, lane, call):
  """Makes the weights of one run's batch NaN, in one update."""
  real, calls = loops.to_device, []

  def poisoned(batch, shardings):
    if batch["weights"].ndim == 3:
      calls.append(batch)
      if len(calls) == call:
        weights = batch["weights"].copy()
        weights[lane] *= np.nan
        batch = {**batch, "weights": weights}
    return real(batch, shardings)

  monkeypatch.setattr(loops, "to_device", poisoned)


def test_a_seed_that_diverges_ends_and_the_others_do_not_notice(
  grouped, configs, tmp_path, monkeypatch
):
  poison(monkeypatch, 1, call=3)
  results = together(configs(), tmp_path)
  bad = folders(tmp_path)[1]
  assert isinstance(results[1], Diverged)
  assert "step 3: the loss is nan" in str(results[1])
  assert [line["step"] for line in numbers(bad)] == [1, 2]
  assert [e["event"] for e in events(bad)] == ["start", "diverged"]
  kept = np.load(bad / "bad/3/batch.npz")
  assert kept["tokens"].shape == (8, 32)
  # The evidence holds this run's own state, as it was saved last.
  assert (bad / "bad/3/checkpoints/2").is_dir()
  assert int(load_state(bad)[1].step) == 2
  for i in (0, 2):
    ours, whole = folders(tmp_path)[i], folders(grouped[0])[i]
    assert numbers(ours) == numbers(whole)
    states = [load_state(workdir)[1] for workdir in (ours, whole)]
    assert fingerprints(states[0]) == fingerprints(states[1])
  # It is remembered as diverged by the group, which is done.
  again = together(configs(), tmp_path)
  assert str(again[1]) == str(results[1])
  assert [e["event"] for e in events(bad)] == ["start", "diverged"]


def test_where_all_diverge_the_group_ends_and_says_so(
  small, tmp_path, monkeypatch, capsys
):
  poison(monkeypatch, slice(None), call=2)
  configs = [small(seed=seed, model__n_layers=1) for seed in (0, 1)]
  workdirs = [tmp_path / "a", tmp_path / "b"]
  results = train_together(configs, workdirs, tmp_path / "group")
  assert all(isinstance(result, Diverged) for result in results)
  for workdir in workdirs:
    assert [e["event"] for e in events(workdir)] == ["start", "diverged"]
  out = capsys.readouterr().out
  for seed in (0, 1):
    assert f"seed {seed}: step 2: the loss is nan" in out
  assert "all 2 runs diverged" in out and "bits per byte" not in out


@pytest.mark.slow
def test_detail_and_noise_scale_are_each_runs_own(small, tmp_path):
  changes = {
    "opt__accum_steps": 2,
    "log__noise_scale": True,
    "log__detail": 2,
    "steps": 2,
    "model__n_layers": 1,
  }
  configs = [small(seed=seed, **changes) for seed in (0, 1)]
  workdirs = [tmp_path / "0", tmp_path / "1"]
  train_together(configs, workdirs, tmp_path / "group")
  train(configs[1], tmp_path / "alone")
  for read in (numbers, lambda w: read_lines(w / "detail.jsonl")):
    ours, lines = read(workdirs[1]), read(tmp_path / "alone")
    for a, b in zip(ours, lines, strict=True):
      flat_a, flat_b = (jax.tree.leaves(x) for x in (a, b))
      assert jax.tree.structure(a) == jax.tree.structure(b)
      for x, y in zip(flat_a, flat_b, strict=True):
        if isinstance(x, str):
          assert x == y  # the hash of the batch
        else:
          assert x == pytest.approx(y, rel=1e-3, abs=1e-5)
    assert ours != read(workdirs[0])


@pytest.mark.parametrize(
  "changes",
  [
    pytest.param(
      {
        "opt__name": "sophia",
        "opt__opts__sophia__every": 2,
        "opt__lr": 1e-4,
        "model__dropout": 0.1,
      },
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {
        "model__compute_dtype": "float16",
        "opt__loss_scale": 2.0**24,
        "opt__average": "ema",
      },
      marks=pytest.mark.slow,
    ),
    pytest.param({"opt__name": "schedule_free"}, marks=pytest.mark.slow),
    pytest.param(
      {"opt__name": "soap", "opt__opts__soap__every": 2},
      marks=pytest.mark.slow,
    ),
  ],
  ids=lambda changes: str(next(iter(changes.values()))),
)
def test_updates_of_several_runs_are_those_of_each(small, changes):
  changes |= {"model__vocab_size": 64, "model__n_layers": 1}
  configs = [small(seed=seed, **changes) for seed in (0, 1)]
  setups = [make_setup(config, jax.devices()[:1]) for config in configs]
  program = Program.of_several(setups[0], 2)
  states = program.first(setup.init() for setup in setups)
  batches = [[batch(configs[0], 2 * i + j) for j in range(2)] for i in range(3)]
  seen = []
  for pair in batches:
    on_device = to_device(program.join(pair), program.shardings)
    states, metrics = program.train_step(states, on_device)
    seen.append(jax.device_get(metrics))
  step, place = make_train_step(setups[0]), batch_shardings(setups[0].layout)
  half = "float16" in changes.values()
  # SOAP turns a rounding of the weights (1e-7) into 8e-4 of the gradient norm
  # in three updates, in one run alone too: its basis is that of a small
  # matrix whose eigenvalues lie close.
  rounding = 5e-3 if "soap" in changes.values() else 1e-4
  for i, setup in enumerate(setups):
    state = setup.init()
    for pair, ours in zip(batches, seen, strict=True):
      state, metrics = step(state, to_device(pair[i], place))
      for key, value in jax.device_get(metrics).items():
        # float16 has 11 bits; its scale, and what it skips, are exact.
        rel = 2e-2 if half and key in ("loss", "grad_norm") else rounding
        assert ours[key][i] == pytest.approx(value, rel=rel, nan_ok=True), key
    if half:
      assert int(state.loss_scale["skipped"]) > 0


def test_a_condition_on_the_step_stays_a_branch(small):
  """As Sophia's estimate of the curvature: not taken, it costs nothing."""
  config = small(model__vocab_size=64, opt__name="sophia")
  program = Program.of_several(make_setup(config, jax.devices()[:1]), 2)
  one = batch(config)
  shapes = program.join([one, one])
  shapes = {k: shapes[k] for k in program.shardings}
  traced = program.train_step.trace(program.abstract, shapes)
  assert " cond[" in str(traced.jaxpr)


def test_what_can_not_train_together_is_refused_by_name(small, tmp_path):
  base = small()
  with pytest.raises(UserError, match=r"differ in opt.lr \(0.001 there, 0.01"):
    check_alike([base, small(seed=1, opt__lr=0.01)])
  with pytest.raises(UserError, match=r"differ in log.every"):
    check_alike([base, small(seed=1, log__every=7)])
  with pytest.raises(UserError, match=r"data.seed=0 comes twice"):
    check_alike([base, small(seed=1), small()])
  with pytest.raises(UserError, match=r"log.wandb='offline' follows one run"):
    check_alike([small(log__wandb="offline")])
  with pytest.raises(UserError, match=r"no config"):
    check_alike([])
  with pytest.raises(UserError, match=r"must all differ"):
    train_together([base], [tmp_path], tmp_path)
  two = small(mesh__data=2).with_vocab(64)
  with pytest.raises(UserError, match=r"one device, and the mesh has 2"):
    Program.of_several(make_setup(two, jax.devices()[:2]), 2)


def test_a_run_or_a_group_that_is_another_is_not_overwritten(
  grouped, configs, tmp_path
):
  folder, _, _ = grouped
  with pytest.raises(UserError, match="checkpoints of its own"):
    train_together(configs(), folders(folder), tmp_path / "group")
  first = folders(folder)[:1]
  with pytest.raises(UserError, match="holds 3 runs in one program"):
    train_together(configs()[:1], first, folder / "group")
  swapped = configs()[1::-1] + configs()[2:]
  with pytest.raises(UserError, match="in the same order"):
    train_together(swapped, folders(folder), folder / "group")
  assert len(numbers(first[0])) == 8


def test_memory_is_that_of_one_times_the_seeds(small):
  config = small(model__vocab_size=320)
  counted = accounts(make_setup(config))
  of_one = counted.memory_bytes
  assert memory_of(config, 5) == 5 * of_one
  # AdamW in fp32: weights, gradient and two moments, and a few counters.
  floats = of_one - counted.activation_bytes
  assert floats == pytest.approx(16 * counted.params, rel=1e-3)


GROUP = """
import json, pathlib, sys
from ablax.train.config import from_dict
from ablax.train.together import train_together

values, folder = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
seeds = range(3)
configs = [from_dict(values, {"seed": s, "data.seed": s}) for s in seeds]
train_together(configs, [folder / str(s) for s in seeds], folder / "group")
"""


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(small, tmp_path):
  values = json.dumps(
    small(steps=60, checkpoint__every=7, eval__every=10).as_dict()
  )
  flags = "--xla_force_host_platform_device_count=1"

  def start(folder):
    return subprocess.Popen(
      [sys.executable, "-c", GROUP, values, str(folder)],
      env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
    )

  assert start(tmp_path / "whole").wait() == 0
  killed = tmp_path / "killed"
  for step in (5, 20, 41):
    run = start(killed)
    while not any(x["step"] >= step for x in read_metrics(killed / "2")):
      assert run.poll() is None
      time.sleep(0.01)
    run.kill()
    run.wait()
  assert start(killed).wait() == 0
  for seed in "012":
    ours, whole = killed / seed, tmp_path / "whole" / seed
    assert numbers(ours) == numbers(whole)
    states = [load_state(workdir)[1] for workdir in (ours, whole)]
    assert fingerprints(states[0]) == fingerprints(states[1])
