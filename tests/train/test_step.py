"""The update: the same on every mesh, by any accumulation, to the bit or so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.parallel.mesh import AXES
from ablax.train.accounting import abstract_batch, batch_zeros
from ablax.train.evaluate import to_device
from ablax.train.setup import make_setup
from ablax.train.state import fingerprints
from ablax.train.step import (
  batch_shardings,
  loss_and_grads,
  make_eval_step,
  make_objective,
  make_train_step,
)

PROVES = (
  "feature:clipping",
  "feature:accumulation",
  "feature:data_parallel",
  "feature:fully_sharded",
  "feature:tensor_parallel",
  "feature:dropout",
)

# fp32 sums over examples and contractions in another order: about
# sqrt(10^3) roundings of 6e-8, relative to the largest entry.
ROUNDING = 5e-6


def batch(config, seed=0):
  """Random tokens in two documents and padding; uneven weights."""
  rng = np.random.default_rng(seed)
  B, T, V = config.data.batch_size, config.data.seq_len, config.model.vocab_size
  made = batch_zeros(abstract_batch(B, T))
  made = {k: np.array(v) for k, v in made.items()}
  made["tokens"] = rng.integers(0, V, (B, T), dtype=np.int32)
  made["targets"] = rng.integers(0, V, (B, T), dtype=np.int32)
  for row in range(B):
    cut, end = sorted(rng.integers(2, T, 2))
    made["segment_ids"][row, :end] = 2
    made["segment_ids"][row, :cut] = 1
    made["weights"][row, :end] = 1
    made["positions"][row, :cut] = np.arange(cut)
    made["positions"][row, cut:end] = np.arange(end - cut)
  made["example_ids"] = np.arange(B, dtype=np.int32)
  return made


@pytest.fixture
def config(small):
  return lambda **changes: small(model__vocab_size=64, **changes)


def train(config, steps=3, devices=None):
  """The losses and the state after a few updates."""
  n = int(np.prod([max(getattr(config.mesh, axis), 1) for axis in AXES]))
  setup = make_setup(config, jax.devices()[:n])
  state, step = setup.init(), make_train_step(setup)
  start = fingerprints(state)
  losses = []
  for i in range(steps):
    host = batch(config, i)
    place = batch_shardings(setup.layout)
    state, metrics = step(state, to_device(host, place))
    losses.append(float(metrics["loss"]))
  return start, losses, jax.device_get(state), setup


DROPS = {"model__dropout": 0.1, "model__stochastic_depth": 0.3}


@pytest.fixture(scope="module")
def alone(small):
  return train(small(model__vocab_size=64, **DROPS))


@pytest.mark.parametrize(
  "mesh",
  [
    {"data": 8},
    {"fsdp": 8},
    {"data": 2, "fsdp": 4},
    {"data": 8, "rules": "replicated"},
    {"data": 2, "fsdp": 2, "tensor": 2},
  ],
  ids=str,
)
def test_every_mesh_trains_as_one_device_does(config, alone, mesh):
  changes = {f"mesh__{axis}": n for axis, n in mesh.items()}
  start, losses, state, setup = train(config(**DROPS, **changes))
  assert start == alone[0], "initial weights differ in bits"
  np.testing.assert_allclose(losses, alone[1], rtol=ROUNDING)
  # Adam divides by the root of the second moment: where a gradient is near 0
  # its rounding becomes a visible part of the step, which is lr at most.
  lr = setup.config.opt.lr
  for a, b in zip(
    jax.tree.leaves(alone[2].params), jax.tree.leaves(state.params), strict=True
  ):
    assert np.abs(a - b).max() < 0.05 * lr


def test_fsdp_splits_parameters_and_optimizer_state(config):
  setup = make_setup(config(mesh__fsdp=8), jax.devices())
  state = setup.init()
  kernel = state.params["groups"]["0"]["ffn"]["up"]["kernel"]
  moment = state.opt_state["direction"].mu["groups"]["0"]["ffn"]["up"]["kernel"]
  for a in (kernel, moment):
    assert a.addressable_shards[0].data.size * 8 == a.size


def test_what_is_dropped_does_not_depend_on_the_number_of_microbatches(config):
  c = config(model__dropout=0.3, model__stochastic_depth=0.5)
  setup = make_setup(c, jax.devices()[:1])
  params = setup.init().params
  host = jax.tree.map(jnp.asarray, batch(c))
  from ablax.models import lm

  apply = functools.partial(lm.apply, c.model)
  run = jax.jit(
    lambda n: loss_and_grads(
      make_objective(c), apply, params, host, jax.random.key(5), n
    ),
    static_argnums=0,
  )
  loss, grads = run(1)
  other, other_grads = run(4)
  np.testing.assert_allclose(loss.sum, other.sum, rtol=ROUNDING)
  for a, b in zip(
    jax.tree.leaves(grads), jax.tree.leaves(other_grads), strict=True
  ):
    assert np.abs(a - b).max() <= 4 * ROUNDING * np.abs(a).max()


def repeat(config, steps):
  """The losses of several updates on one batch, and the state after them."""
  setup = make_setup(config, jax.devices()[:1])
  state, step = setup.init(), make_train_step(setup)
  place = batch_shardings(setup.layout)
  losses = []
  for _ in range(steps):
    state, metrics = step(state, to_device(batch(config), place))
    losses.append(float(metrics["loss"]))
  return losses, state


def test_dropout_masks_change_with_the_step(config):
  losses, _ = repeat(config(model__dropout=0.5, opt__lr=0.0), 2)
  assert losses[0] != losses[1]


def test_clipping_bounds_the_gradient_and_leaves_a_small_one(config):
  updates = {}
  for clip in (0.0, 1e-3, 1e3):
    c = config(
      opt__clip_norm=clip,
      opt__name="sgd",
      opt__weight_decay=0.0,
      opt__warmup_steps=0,
      opt__schedule="constant",
      opt__lr=1.0,
    )
    setup = make_setup(c, jax.devices()[:1])
    state = setup.init()
    before = jax.device_get(state.params)
    step = make_train_step(setup)
    place = batch_shardings(setup.layout)
    state, metrics = step(state, to_device(batch(c), place))
    after = jax.device_get(state.params)
    square = sum(
      float(np.sum((a - b) ** 2, dtype=np.float64))
      for a, b in zip(
        jax.tree.leaves(after), jax.tree.leaves(before), strict=True
      )
    )
    updates[clip] = (square**0.5, float(metrics["grad_norm"]))
  # The update is a difference of fp32 weights: 1e-7 of each weight is lost.
  assert updates[1e-3][0] == pytest.approx(1e-3, rel=0.02)
  assert updates[0.0][0] == pytest.approx(updates[0.0][1], rel=1e-3)
  assert updates[1e3][0] == pytest.approx(updates[0.0][0], rel=1e-5)


def test_a_batch_of_padding_alone_changes_nothing_but_decay(config):
  c = config(opt__weight_decay=0.0)
  setup = make_setup(c, jax.devices()[:1])
  state, step = setup.init(), make_train_step(setup)
  before = fingerprints(state.params)
  empty = batch(c) | {"weights": np.zeros_like(batch(c)["weights"])}
  place = batch_shardings(setup.layout)
  state, metrics = step(state, to_device(empty, place))
  assert fingerprints(state.params) == before
  assert float(metrics["loss"]) == 0.0


def test_bfloat16_compute_keeps_float32_parameters_and_trains(config):
  c = config(model__compute_dtype="bfloat16", opt__lr=1e-2)
  losses, state = repeat(c, 6)
  assert {a.dtype for a in jax.tree.leaves(state.params)} == {
    jnp.dtype("float32")
  }
  assert losses[-1] < losses[0] - 0.1


def test_the_state_is_donated(config):
  setup = make_setup(config(), jax.devices()[:1])
  state, step = setup.init(), make_train_step(setup)
  old = state.params["embedding"]
  place = batch_shardings(setup.layout)
  step(state, to_device(batch(setup.config), place))
  assert old.is_deleted()


def test_evaluation_draws_no_dropout(config):
  losses = []
  for rate in (0.0, 0.5):
    drops = config(model__dropout=rate, model__stochastic_depth=rate)
    setup = make_setup(drops, jax.devices()[:1])
    place = batch_shardings(setup.layout)
    loss = make_eval_step(setup)(
      setup.init(), to_device(batch(setup.config), place)
    )
    losses.append(float(loss.sum))
  assert losses[0] == losses[1]


def test_fingerprints_see_one_flipped_bit_and_two_swapped_numbers():
  a = np.zeros((3, 5), np.float32)
  a[1, 2], a[0, 1] = 1.0, 2.0
  flipped = a.copy()
  flipped.view(np.uint32)[2, 4] ^= 1
  swapped = a.copy()
  swapped[1, 2], swapped[0, 1] = 2.0, 1.0
  hashes = {
    fingerprints({"a": jnp.asarray(x)})["a"] for x in (a, flipped, swapped)
  }
  assert len(hashes) == 3
  sharded = jax.device_put(
    np.arange(64, dtype=np.float32).reshape(8, 8),
    jax.sharding.NamedSharding(
      jax.make_mesh((8,), ("x",)), jax.sharding.PartitionSpec("x")
    ),
  )
  whole = jnp.arange(64, dtype=jnp.float32).reshape(8, 8)
  assert fingerprints({"a": sharded}) == fingerprints({"a": whole})
