"""Every optimizer, in the real update: it learns, and it resumes to the bit."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm
from ablax.train.accounting import abstract_batch, batch_zeros
from ablax.train.checkpoint import Checkpoints
from ablax.train.config import load
from ablax.train.evaluate import to_device
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.objectives import OBJECTIVES, Drawable
from ablax.train.optimizers import OPTIMIZERS
from ablax.train.proofs.resume import compare
from ablax.train.setup import Setup, make_setup
from ablax.train.state import fingerprints
from ablax.train.step import (
  batch_shardings,
  loss_and_grads,
  make_objective,
  make_train_step,
)

TINY = {
  "model__d_model": 16,
  "model__n_kv_heads": 4,
  "model__ff_dim": 24,
  "model__vocab_size": 64,
  "data__seq_len": 16,
  "data__batch_size": 4,
  "opt__warmup_steps": 0,
  "opt__schedule": "constant",
}
LR = {"sgd": 0.3, "adafactor": 0.1, "lamb": 0.05}


def batch(config, seed=0):
  rng = np.random.default_rng(seed)
  B, T, V = config.data.batch_size, config.data.seq_len, 64
  made = batch_zeros(abstract_batch(B, T))
  made = {k: np.array(v) for k, v in made.items()}
  made["tokens"] = rng.integers(0, V, (B, T), dtype=np.int32)
  made["targets"] = (made["tokens"] + 1) % V
  made["segment_ids"] += 1
  made["positions"] += np.arange(T, dtype=np.int32)
  made["weights"] += rng.integers(0, 2, (B, T))
  made["example_ids"] = np.arange(B, dtype=np.int32)
  return made


def updates(setup, step, state, counts):
  """The state after these updates, and their losses."""
  place = batch_shardings(setup.layout)
  losses = []
  for count in counts:
    host = batch(setup.config, count % 3)
    state, metrics = step(state, to_device(host, place))
    losses.append(float(metrics["loss"]))
  return state, losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_learns_and_resumes_to_the_bit(name, small, tmp_path):
  average = "none" if name == "schedule_free" else "ema"
  config = small(
    **TINY, opt__name=name, opt__lr=LR.get(name, 0.01), opt__average=average
  )
  setup = make_setup(config, jax.devices()[:1])
  step = make_train_step(setup)
  # Across the periods of soap, shampoo and sophia, which are 10.
  state, losses = updates(setup, step, setup.init(), range(9))
  checkpoints = Checkpoints(tmp_path, config.checkpoint)
  checkpoints.save(9, state, {})
  checkpoints.wait()
  state, more = updates(setup, step, state, range(9, 12))
  assert np.mean([*losses, *more][-3:]) < np.mean(losses[:3]) - 0.05
  restored, _ = checkpoints.restore(9, setup.abstract())
  checkpoints.close()
  resumed, again = updates(setup, step, restored, range(9, 12))
  assert again == more
  assert fingerprints(resumed) == fingerprints(state)


# Labels drawn from the model, for Sophia.


@pytest.fixture(scope="module")
def params(small):
  """Those of the tiny model, whatever the objective and the dropout."""
  return make_setup(small(**TINY), jax.devices()[:1]).init().params


def on_drawn_labels(config, accum_steps=1):
  """A jitted function of (params, key): the loss on drawn labels, its grads."""
  objective = make_objective(config)
  assert isinstance(objective, Drawable)
  apply = functools.partial(lm.apply, config.model)
  host = jax.tree.map(jnp.asarray, batch(config))

  @jax.jit
  def run(params, key):
    return loss_and_grads(
      objective.drawn, apply, params, host, key, accum_steps
    )

  return run


@pytest.fixture(scope="module")
def drawn(small):
  return on_drawn_labels(small(**TINY))


def test_drawn_labels_are_the_same_in_microbatches(drawn, small, params):
  loss, grads = drawn(params, jax.random.key(5))
  in_two = on_drawn_labels(small(**TINY), 2)
  other, other_grads = in_two(params, jax.random.key(5))
  np.testing.assert_allclose(loss.sum, other.sum, rtol=1e-6)
  for a, b in zip(*map(jax.tree.leaves, (grads, other_grads)), strict=True):
    # Sums in another order.
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_the_loss_of_drawn_labels_is_plain_and_drawn_anew_by_each_key(
  drawn, small, params
):
  key = jax.random.key(5)
  plain = float(drawn(params, key)[0].sum)
  config = small(
    **TINY,
    objective__z_loss=0.5,
    objective__label_smoothing=0.3,
    model__dropout=0.5,
  )
  assert float(on_drawn_labels(config)(params, key)[0].sum) == plain
  assert float(drawn(params, jax.random.key(6))[0].sum) != plain


def test_the_squared_gradient_of_drawn_labels_is_the_gauss_newton_diagonal():
  """For logits W x: E[n g^2] = mean_n x^2 p (1 - p), as in the Hessian."""
  from ablax.models.gumbel import gumbel_argmax

  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((3, 4, 2)), jnp.float32)
  w = jnp.asarray(rng.standard_normal((5, 2)), jnp.float32)
  p = jax.nn.softmax(jnp.einsum("btd,vd->btv", x, w))

  def estimate(seed):
    labels = gumbel_argmax(x, w, seed, jnp.arange(3))
    error = p - jax.nn.one_hot(labels, 5)
    grad = jnp.einsum("btv,btd->vd", error, x) / 12
    return 12 * grad**2

  seeds = jnp.arange(4000, dtype=jnp.uint32)
  got = jax.jit(lambda s: jax.lax.map(estimate, s).mean(0))(seeds)
  want = jnp.einsum("btv,btd->vd", p * (1 - p), x**2) / 12
  # A mean of 4000 squares of nearly normal numbers: 1 / sqrt(2000).
  np.testing.assert_allclose(got, want, rtol=0.1)


def test_sophia_takes_its_curvature_from_drawn_labels_every_k_updates(
  small, drawn
):
  config = small(
    **TINY,
    opt__name="sophia",
    opt__opts__sophia__every=2,
    opt__opts__sophia__b2=0.0,
    opt__accum_steps=2,
  )
  setup = make_setup(config, jax.devices()[:1])
  step = make_train_step(setup)
  state, seen = setup.init(), []
  first = jax.device_get(state)
  for count in range(3):
    state, _ = updates(setup, step, state, [count])
    curvature = state.opt_state["direction"]["curvature"]
    seen.append(np.asarray(curvature["groups"]["0"]["ffn"]["up"]["kernel"]))
  assert seen[0].any()
  np.testing.assert_array_equal(seen[1], seen[0])
  assert (seen[2] != seen[1]).any()
  # b2 = 0: the estimate itself, the weight of the batch times g^2.
  key = jax.random.fold_in(jax.random.wrap_key_data(first.rng), 0)
  loss, grads = drawn(first.params, jax.random.split(key)[1])
  g = np.asarray(grads["groups"]["0"]["ffn"]["up"]["kernel"])
  want = float(loss.weight) * g**2
  # fp32, sums of two microbatches in another order.
  np.testing.assert_allclose(seen[0], want, rtol=1e-3, atol=1e-6 * want.max())


def test_an_objective_that_can_not_draw_is_refused_with_sophia(
  small, monkeypatch
):
  class Silent:
    """An objective that has no `drawn`."""

  config = small(**TINY, opt__name="sophia")
  layout = make_setup(config, jax.devices()[:1]).layout
  monkeypatch.setitem(OBJECTIVES._registered, "silent", Silent)
  other = dataclasses.replace(
    config, objective=dataclasses.replace(config.objective, name="silent")
  )
  with pytest.raises(UserError) as caught:
    Setup.of(other, layout)
  assert str(caught.value) == (
    "opt.name='sophia' needs labels drawn from the model, which"
    " objective.name='silent' does not say how to draw; use another optimizer"
  )


# The real job.


@pytest.mark.slow  # two real runs each, of the model of configs/lm/tiny.py
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_trains_the_tiny_config_and_resumes_to_the_bit(
  name, cache, tmp_path
):
  """All as the command does it, but for fewer updates on shorter rows."""
  config = load(
    "configs/lm/tiny.py",
    {
      "opt.name": name,
      "opt.lr": LR.get(name, 3e-3),
      "opt.warmup_steps": 3,
      "steps": 12,  # across the periods of soap, shampoo and sophia: 10
      "data.max_bytes": 1_000_000,
      "data.tokenizer_bytes": 500_000,
      "data.heldout_bytes": 10_000,
      "data.seq_len": 64,
      "eval.every": 0,
      "eval.prompts": (),
      "checkpoint.every": 6,
      "checkpoint.keep": 3,
      "log.every": 1,
      "log.progress": False,
      "mesh.data": 1,
    },
  )
  train(config, tmp_path / "alone")
  shutil.copytree(tmp_path / "alone", tmp_path / "killed")
  shutil.rmtree(tmp_path / "killed/checkpoints/12")
  train(config, tmp_path / "killed")
  lines = read_metrics(tmp_path / "alone")
  losses = [x["loss"] for x in lines if "loss" in x]
  assert len(losses) == 12
  assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1
  checks = list(compare(tmp_path / "alone", tmp_path / "killed"))
  assert not [check for check in checks if not check.holds]
