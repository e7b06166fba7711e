"""Mixtures of experts in training: microbatches, the step of the bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout
from ablax.train.accounting import abstract_batch
from ablax.train.checkpoint import load_state
from ablax.train.loop import train
from ablax.train.proofs import find
from ablax.train.setup import Setup
from ablax.train.step import make_train_step

PROVES = ("feature:loss_free_balance", "feature:upcycling")

MOE = {
  "model__ffn": "moe",
  "model__opts__moe__n_experts": 4,
  "model__opts__moe__expert_dim": 16,
}
ROW_BY_ROW = {
  "softmax": {
    "model__opts__softmax__z_loss": 0.1,
    "model__opts__softmax__balance_loss": 0.5,
  },
  "capacity": {"model__opts__moe__capacity_factor": 0.7},
  "expert_choice": {"model__opts__moe__router": "expert_choice"},
  "sinkhorn": {"model__opts__moe__router": "sinkhorn"},
}


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_what_is_evened_by_the_row_accumulates_as_one_batch(small, name):
  config = small(**MOE, **ROW_BY_ROW[name], data__batch_size=2)
  failed = [check for check in find("accumulate")(config) if not check.holds]
  assert not failed


def test_what_is_evened_by_the_microbatch_does_not(small):
  config = small(
    **MOE,
    model__opts__softmax__balance_loss=3.0,
    model__opts__softmax__balance_over="batch",
    data__batch_size=2,
  )
  assert [check for check in find("accumulate")(config) if not check.holds]


def batch_of(config):
  rows, T = config.data.batch_size, config.data.seq_len
  rng = np.random.default_rng(0)
  batch = jax.tree.map(
    lambda a: jnp.asarray(rng.integers(1, 100, a.shape), a.dtype),
    abstract_batch(rows, T),
  )
  slots = jnp.broadcast_to(jnp.arange(T), (rows, T))
  return batch | {
    "weights": jnp.ones((rows, T)),
    "segment_ids": jnp.ones((rows, T), jnp.int32),
    "positions": slots,
    "example_ids": jnp.arange(rows),
  }


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "lamb"])
def test_a_bias_goes_by_its_rate_towards_an_even_load(small, optimizer):
  """By exactly that, whatever the optimizer, clipping and decay do."""
  rate = 0.01

  def run(**more):
    config = small(
      **MOE,
      opt__name=optimizer,
      opt__clip_norm=0.1,
      opt__warmup_steps=0,
      **more,
    ).with_vocab(128)
    mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
    setup = Setup.of(config, Layout.of(mesh, config.mesh.rules))
    state, metrics = setup.init(), None
    step = make_train_step(setup)
    state, metrics = step(state, batch_of(config))
    return state.params["groups"]["0"]["ffn"]["router"], metrics

  router, metrics = run(model__opts__softmax__bias_rate=rate)
  plain, without = run()
  bias_LE = np.asarray(router["bias"])
  # An expert with exactly its share stays where it is.
  assert set(np.unique(np.abs(bias_LE))) <= {0.0, np.float32(rate)}
  assert (np.abs(bias_LE) > 0).mean() > 0.5
  assert (bias_LE > 0).any(1).all() and (bias_LE < 0).any(1).all()
  # The first update's choices had no bias yet, and no norm sees its gradient.
  for name in ("loss", "grad_norm", "moe/max_load/1", "moe/entropy"):
    np.testing.assert_allclose(metrics[name], without[name], rtol=1e-6)
  # Two programs, each with its own order of fp32 sums: an update of some 1e-2
  # differs by its rounding, wherever the weight itself is near 0.
  np.testing.assert_allclose(
    router["logits"]["kernel"], plain["logits"]["kernel"], rtol=1e-5, atol=1e-8
  )


def test_a_bias_evens_out_the_load(small):
  """With nothing else that would."""
  config = small(
    **MOE,
    model__opts__softmax__balance_loss=0.0,
    model__opts__softmax__bias_rate=0.02,
    opt__lr=0.0,
  ).with_vocab(128)
  mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
  setup = Setup.of(config, Layout.of(mesh, config.mesh.rules))
  state, step, batch = setup.init(), make_train_step(setup), batch_of(config)
  loads = []
  for _ in range(30):
    state, metrics = step(state, batch)
    loads.append(float(metrics["moe/max_load"]))
  assert loads[-1] < 1.15 < 1.3 < loads[0]


def test_an_upcycled_mixture_begins_as_the_dense_model(small, tmp_path):
  dense = small(steps=4, opt__lr=1e-2)
  train(dense, tmp_path / "dense")
  config = small(
    model__ffn="moe",
    model__opts__moe__n_experts=4,
    steps=1,
    opt__lr=0.0,
    opt__warmup_steps=0,
    init_from=str(tmp_path / "dense"),
  )
  train(config, tmp_path / "experts")
  (one, few), (two, many) = (
    load_state(tmp_path / name) for name in ("dense", "experts")
  )
  tokens = jnp.arange(3, 30)[None]
  np.testing.assert_allclose(
    lm.apply(two.model, many.params, tokens).logits(),
    lm.apply(one.model, few.params, tokens).logits(),
    rtol=0,
    atol=2e-5,  # fp32: weights that add up to 1 to rounding
  )
  experts = many.params["groups"]["0"]["ffn"]["experts"]["up"]["kernel"]
  up = few.params["groups"]["0"]["ffn"]["up"]["kernel"]
  assert experts.shape == (2, 4, *up.shape[1:])
  for e in range(4):
    np.testing.assert_array_equal(experts[:, e], up)
  narrow = small(
    **MOE, steps=1, opt__warmup_steps=0, init_from=str(tmp_path / "dense")
  )
  with pytest.raises(UserError, match="experts/down/kernel is"):
    train(narrow, tmp_path / "narrow")
