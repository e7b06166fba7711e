"""float16 with a loss scale: as good as float32, and clear when it fails."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.models import lm
from ablax.train.accounting import abstract_batch, batch_zeros
from ablax.train.checkpoint import load_state
from ablax.train.config import from_dict, resolve
from ablax.train.evaluate import to_device
from ablax.train.guard import Diverged, LossWatch
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.loss_scale import MAXIMUM, next_state, per_term
from ablax.train.objectives.next_token import NextToken
from ablax.train.optimizers import OPTIMIZERS
from ablax.train.proofs import find
from ablax.train.proofs.resume import compare
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints
from ablax.train.step import (
  batch_shardings,
  loss_and_grads,
  make_objective,
  make_train_step,
)
from ablax.train.story import story

PROVES = ("feature:loss_scaling",)

HALF = {"model__compute_dtype": "float16", "model__vocab_size": 64}


def batch(config, seed=0):
  rng = np.random.default_rng(seed)
  B, T, V = config.data.batch_size, config.data.seq_len, config.model.vocab_size
  made = {k: np.array(v) for k, v in batch_zeros(abstract_batch(B, T)).items()}
  for name in ("tokens", "targets"):
    made[name] = rng.integers(0, V, (B, T), dtype=np.int32)
  made["segment_ids"][:] = 1
  made["positions"][:] = np.arange(T)
  made["weights"][:] = 1
  made["example_ids"] = np.arange(B, dtype=np.int32)
  return made


class Trainer:
  """A compiled step, to be run on batches from a state."""

  def __init__(self, config):
    self.config = config
    self.setup = make_setup(config, jax.devices()[:1])
    self.step = make_train_step(self.setup)
    self.places = batch_shardings(self.setup.layout)

  def run(self, n, scale=None):
    """The metrics of n updates on one batch, and the state after each."""
    state = self.setup.init()
    if scale is not None:
      state.loss_scale["scale"] = jnp.float32(scale)
    metrics, states = [], [jax.device_get(state)]
    for _ in range(n):
      on_device = to_device(batch(self.config), self.places)
      state, got = self.step(state, on_device)
      metrics.append({k: float(v) for k, v in got.items()})
      states.append(jax.device_get(state))
    return metrics, states


@pytest.fixture(scope="module")
def half(small):
  return Trainer(small(**HALF, opt__lr=1e-2, opt__loss_scale_growth=3))


def test_the_scale_grows_after_good_steps_and_halves_at_an_overflow():
  state = {"scale": 8.0, "good_steps": 0, "skipped": 0}
  state = jax.tree.map(jnp.asarray, state)
  seen = []
  for finite in (True, True, True, False, True, False, False, True, True):
    state = next_state(state, jnp.asarray(finite), growth=3)
    seen.append(tuple(float(state[k]) for k in ("scale", "skipped")))
  # Three good ones double it; an overflow halves it and begins the count anew.
  assert seen == [
    (8, 0), (8, 0), (16, 0), (8, 1), (8, 1), (4, 2), (2, 3), (2, 3), (2, 3),
  ]  # fmt: skip
  state = jax.tree.map(jnp.asarray, {**state, "scale": jnp.float32(MAXIMUM)})
  assert next_state(state, jnp.asarray(True), growth=1)["scale"] == MAXIMUM


def test_the_factor_of_a_sum_is_a_power_of_two_near_the_mean():
  assert float(per_term(jnp.float32(1024), 256)) == 4
  assert float(per_term(jnp.float32(1024), 300)) == 4
  assert float(per_term(jnp.float32(1024), 255)) == 8


def test_float16_training_follows_float32(small, half):
  full = Trainer(small(model__vocab_size=64, opt__lr=1e-2))
  want, got = full.run(12)[0], half.run(12)[0]
  assert got[-1]["skipped"] == 0
  assert want[-1]["loss"] < want[0]["loss"] - 0.5
  # 11 bits: 5e-4 a rounding, some ten in a forward pass, mostly cancelling.
  losses = [[m["loss"] for m in metrics] for metrics in (got, want)]
  np.testing.assert_allclose(*losses, rtol=2e-3)
  # Of the same weights; later ones differ by what Adam makes of a rounding.
  assert got[0]["grad_norm"] == pytest.approx(want[0]["grad_norm"], rel=1e-3)


def test_a_power_of_two_changes_no_bit_of_an_update(half):
  # So large that no gradient is subnormal in float16, with fewer bits.
  one, other = (half.run(2, scale)[1][-1] for scale in (2.0**18, 2.0**19))
  assert fingerprints(one.params) == fingerprints(other.params)


def gradients(config, weight, scale):
  """The gradient of the mean loss, whose terms are `weight` times as large."""
  params = lm.init(config.model, jax.random.key(0))
  made = jax.tree.map(jnp.asarray, batch(config))
  made["weights"] = made["weights"] * weight
  _, grads = jax.jit(
    functools.partial(
      loss_and_grads,
      make_objective(config),
      functools.partial(lm.apply, config.model),
    )
  )(
    params,
    made,
    jax.random.key(1),
    loss_scale=None if scale is None else jnp.float32(scale),
  )
  return jnp.concatenate([g.ravel() for g in jax.tree.leaves(grads["groups"])])


def test_small_gradients_vanish_without_a_scale_and_not_with_it(small):
  config = small(**HALF)
  exact = gradients(small(model__vocab_size=64), 1.0, None)

  def error(weight, scale):
    got = gradients(config, weight, scale)
    return float(jnp.linalg.norm(got - exact) / jnp.linalg.norm(exact))

  # A loss of 1e-7 times the usual size: the mean's gradient is the same.
  assert error(1.0, 2.0**16) < 5e-3
  assert error(1e-7, None) > 0.9, "nothing is left of it"
  assert error(1e-7, MAXIMUM) < 5e-3


def test_an_overflow_changes_nothing_but_the_scale_and_the_step(half):
  metrics, states = half.run(1, scale=2.0**30)
  before, after = states
  assert not np.isfinite(metrics[0]["grad_norm"])
  assert np.isfinite(metrics[0]["loss"])
  for part in ("params", "opt_state", "rng"):
    assert fingerprints(getattr(before, part)) == (
      fingerprints(getattr(after, part))
    )
  assert after.step == 1
  # Even from above the most it ever is.
  scale = {k: float(v) for k, v in after.loss_scale.items()}
  assert scale == {"scale": MAXIMUM, "good_steps": 0, "skipped": 1}


def test_training_finds_its_scale_from_above(half):
  metrics, states = half.run(14, scale=MAXIMUM)
  losses = [m["loss"] for m in metrics]
  finite = [np.isfinite(m["grad_norm"]) for m in metrics]
  first = finite.index(True)
  # Nothing changes until the scale fits; then it trains.
  assert 0 < first < 8 and len(set(losses[: first + 1])) == 1
  assert losses[-1] < losses[0] - 0.1
  # Adam counts the updates that were made.
  assert states[-1].opt_state["direction"].count == sum(finite)
  assert metrics[-1]["skipped"] == 14 - sum(finite)


@pytest.mark.parametrize(
  "name",
  [
    # To compile each is slow; one in bits and the other one by its labels.
    name
    if name in ("adan", "sophia")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in OPTIMIZERS.own
  ],
)
def test_skipped_updates_leave_no_trace_in_any_optimizer(name, small):
  config = small(
    **HALF,
    opt__name=name,
    opt__average="none" if name == "schedule_free" else "ema",
    opt__schedule="constant",
    opt__warmup_steps=0,
  )
  trainer = Trainer(config)
  metrics, states = trainer.run(9, scale=MAXIMUM)
  skipped = [m["overflow"] for m in metrics].index(0)  # at first
  assert 0 < skipped < 8
  if name == "sophia":  # draws other labels at another step
    curvature = states[skipped + 1].opt_state["direction"]["curvature"]
    assert np.asarray(curvature["embedding"]).any()
    return
  # As if the scale had fitted from the start.
  _, fitting = trainer.run(9 - skipped, scale=MAXIMUM / 2**skipped)
  for part in ("params", "opt_state"):
    one, other = (getattr(s[-1], part) for s in (states, fitting))
    assert fingerprints(one) == fingerprints(other)


def test_an_overflow_on_drawn_labels_alone_skips_the_update(small, monkeypatch):
  real = NextToken.drawn

  def steep(self, *args):
    loss = real(self, *args)
    return loss._replace(sum=loss.sum * 2.0**8)

  monkeypatch.setattr(NextToken, "drawn", steep)
  config = small(**HALF, opt__name="sophia", opt__opts__sophia__every=1)
  metrics, states = Trainer(config).run(9)
  overflow = [m["overflow"] for m in metrics]
  # The scale falls until the drawn labels' gradient fits as well.
  assert overflow[0] == 1 and overflow[-1] == 0
  assert metrics[-1]["skipped"] == sum(overflow)
  assert all(np.isfinite(m["grad_norm"]) for m in metrics)
  for state in states:
    kept = jax.tree.leaves(state.opt_state["direction"]["curvature"])
    assert all(np.isfinite(a).all() for a in kept)


def test_the_loss_is_logged_as_it_is_whatever_the_scale(half):
  losses = [half.run(1, scale)[0][0]["loss"] for scale in (2.0, 2.0**16)]
  assert losses[0] == losses[1]


def run_of(small, **changes):
  return small(
    model__compute_dtype="float16",
    opt__loss_scale_growth=2,
    checkpoint__keep=3,
    **changes,
  )


def test_a_resumed_run_has_the_same_bits_and_scale(small, tmp_path):
  config = run_of(
    small,
    model__stochastic_depth=0.3,
    opt__accum_steps=2,
    opt__loss_scale=2.0**12,
  )
  train(config, tmp_path / "alone")
  shutil.copytree(tmp_path / "alone", tmp_path / "killed")
  for step in (4, 6):
    shutil.rmtree(tmp_path / "killed/checkpoints" / str(step))
  train(config, tmp_path / "killed")
  checks = list(compare(tmp_path / "alone", tmp_path / "killed"))
  assert "loss_scale: the same bits" in [c.claim for c in checks]
  assert all(c.holds for c in checks)
  scale = load_state(tmp_path / "killed")[1].loss_scale
  assert float(scale["scale"]) == 2.0**15  # three times two good steps


def test_a_scale_that_collapses_stops_the_run_and_names_what_is_left(
  small, tmp_path, monkeypatch
):
  from ablax.train import loop

  real, calls = loop.to_device, []

  def poisoned(batch, shardings):
    calls.append(batch)
    if len(calls) > 4:  # the loss stays finite, its gradient in float16 not
      batch = {**batch, "weights": batch["weights"] * np.float32(1e12)}
    return real(batch, shardings)

  monkeypatch.setattr(loop, "to_device", poisoned)
  workdir = tmp_path / "run"
  config = run_of(small, steps=40, checkpoint__every=4, opt__loss_scale=8.0)
  with pytest.raises(Diverged) as caught:
    train(config, workdir)
  message = str(caught.value)
  assert "\n" not in message
  assert "down to opt.loss_scale_min=1; its batch" in message
  assert "Lower opt.lr, or go on from the weights in another" in message
  assert f"with --config.init_from={workdir} and --config.model.c" in message
  lines = read_metrics(workdir)
  last = next(x for x in lines if x.get("skipped"))
  # 8 has doubled twice; then 32, 16, 8, 4, 2 are tried, and 1 at last.
  assert last["step"] == 5 and last["loss_scale"] == 32
  assert last["grad_norm"] is None and last["loss"] > 0
  assert "overflow" not in last
  assert "Infinity" not in (workdir / "metrics.jsonl").read_text()
  good = workdir / "bad/10/checkpoints/8"
  assert str(good) in message and good.is_dir()
  told = story(workdir)
  assert told["status"] == "diverged" and "overflows" in told["why"]
  state = load_state(workdir)[1]
  assert int(state.step) == 8
  # Nothing is lost: the weights are those of the last good update.
  assert int(state.opt_state["direction"].count) == 4


def test_an_infinite_loss_is_not_the_scales_fault(tmp_path):
  watch = LossWatch(tmp_path, 1.0, lambda: None)
  nothing = {"tokens": np.arange(4)}
  assert watch.check(1, 2.0, np.inf, nothing, 4.0, skipped=True) is None
  with pytest.raises(Diverged, match="the loss is nan"):
    watch.check(2, np.nan, np.nan, nothing, 4.0, skipped=True)
  with pytest.raises(Diverged, match="the gradient norm inf"):
    watch.check(3, 2.0, np.inf, nothing)
  # Skipped for a gradient that is not the norm's.
  with pytest.raises(Diverged, match="overflows at every loss scale"):
    watch.check(4, 2.0, 1.0, nothing, 1.0, skipped=True)


def test_advice_about_a_scale_names_only_what_can_be_done(tmp_path):
  watch = LossWatch(tmp_path, 1.0, lambda: None, min_loss_scale=2.0**23)
  nothing = {"tokens": np.arange(4)}
  with pytest.raises(Diverged) as caught:
    watch.check(1, 2.0, np.inf, nothing, 2.0**23, skipped=True)
  message = str(caught.value)
  assert "opt.loss_scale_min=8388608;" in message
  assert message.endswith(
    "there is no checkpoint before it. Lower opt.loss_scale_min or opt.lr, or"
    " begin again in another --workdir, with"
    " --config.model.compute_dtype=float32 or bfloat16"
  )
  wider = "or take model.compute_dtype=bfloat16 or float32"
  for loss_scale in (None, 4.0):
    with pytest.raises(Diverged) as caught:
      watch.check(2, np.nan, 1.0, nothing, loss_scale)
    assert (wider in str(caught.value)) == (loss_scale is not None)


@pytest.mark.parametrize("name", ["accumulate", "causal"])
def test_the_proofs_hold_in_float16_with_stochastic_depth(name, small):
  config = small(model__compute_dtype="float16", model__stochastic_depth=0.3)
  failed = [c for c in find(name)(config) if not c.holds]
  assert not failed, failed


@pytest.mark.long  # three processes that each start and compile
def test_a_killed_float16_run_ends_in_the_same_bits(small, monkeypatch):
  flag = "--xla_force_host_platform_device_count=1"
  monkeypatch.setenv("XLA_FLAGS", flag)
  config = run_of(small, model__stochastic_depth=0.3)
  assert all(c.holds for c in find("resume")(config, steps=8, kills=1))


def test_auto_is_kept_and_hashed_as_what_it_came_to(monkeypatch):
  from ablax.train import config as configs

  def auto(device_has):
    monkeypatch.setattr(configs, "best_dtype", lambda: device_has)
    return resolve(base.get_config(), {"model.compute_dtype": "auto"})

  t4, a100 = auto("float16"), auto("bfloat16")
  assert t4.model.compute_dtype == "float16" and t4.hash != a100.hash
  literal = resolve(base.get_config(), {"model.compute_dtype": "float16"})
  assert t4.hash == literal.hash
  # A run goes on with what it began with, whatever the machine.
  again = from_dict(json.loads(json.dumps(t4.as_dict())))
  assert again == t4


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"opt.loss_scale": 1000.0}, "opt.loss_scale=1000.0 must be a power of"),
    ({"opt.loss_scale": -2.0}, "opt.loss_scale=-2.0 must be a power of two"),
    ({"opt.loss_scale": 2.0**25}, "at most 16777216"),
    ({"opt.loss_scale_min": 0.0}, "opt.loss_scale_min=0.0 must be a power"),
    (
      {"opt.loss_scale": 2.0, "opt.loss_scale_min": 4.0},
      "opt.loss_scale_min=4.0 is above opt.loss_scale=2.0; lower it",
    ),
    ({"opt.loss_scale_growth": 0}, "opt.loss_scale_growth=0 must be at least"),
    ({"model.param_dtype": "float16"}, "param_dtype='float16' is not one of"),
    ({"model.compute_dtype": "fp16"}, "did you mean 'float16'"),
  ],
)
def test_a_scale_without_meaning_is_refused(change, message):
  with pytest.raises(UserError) as caught:
    resolve(base.get_config(), change)
  assert message in str(caught.value) and "\n" not in str(caught.value)
