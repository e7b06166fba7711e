"""Multi-token prediction: a by-hand loss, documents kept apart, training."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.models import lm
from ablax.models.ahead import has_later, later
from ablax.models.block import Block
from ablax.models.context import Context
from ablax.models.lm import Output
from ablax.train.config import resolve
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.proofs import find
from ablax.train.step import make_objective

PROVES = ("objective:multi_token",)

MULTI = {"objective.name": "multi_token", "model.n_ahead": 2}


def config_of(**changes):
  sizes = {"d_model": 3, "n_heads": 1, "head_dim": 2, "vocab_size": 3}
  changes = {k.replace("__", "."): v for k, v in changes.items()}
  return resolve(
    base.get_config(),
    MULTI | {f"model.{k}": v for k, v in sizes.items()} | changes,
  )


def test_three_tokens_by_hand():
  """Modules one and two places on; the row ends, so each has a target less."""
  config = config_of(objective__opts__multi_token__weight=0.4)
  # exp(logits): of the model, of module 1 and of module 2.
  odds = np.array(
    [
      [[1, 2, 5], [3, 3, 2], [1, 1, 2]],
      [[1, 1, 2], [2, 1, 1], [9, 9, 9]],
      [[5, 3, 2], [9, 9, 9], [9, 9, 9]],
    ],
    float,
  )
  logits = jnp.log(jnp.asarray(odds, jnp.float32))[:, None]

  def apply(params, *_, dropout_key=None, ahead=False):
    assert ahead and dropout_key is not None
    first, *ahead_BTDs = params["logits"]
    ahead_BTDs = tuple(ahead_BTDs)
    return Output(first, jnp.eye(3), None, config.model, ahead=ahead_BTDs)

  batch = {
    "tokens": jnp.zeros((1, 3), jnp.int32),
    "targets": jnp.array([[2, 0, 1]]),
    "segment_ids": jnp.ones((1, 3), jnp.int32),
    "positions": jnp.arange(3)[None],
    "weights": jnp.array([[1.0, 0.5, 1.0]]),
    "example_ids": jnp.array([0]),
  }
  loss = make_objective(config)(
    apply, {"logits": logits}, batch, jax.random.key(0)
  )
  main = -math.log(5 / 8) - 0.5 * math.log(3 / 8) - math.log(1 / 4)
  # Targets 0 (weight 0.5) and 1 (weight 1) of module 1; 1 of module 2.
  one = -0.5 * math.log(1 / 4) - math.log(1 / 4)
  two = -math.log(3 / 10)
  np.testing.assert_allclose(loss.sum, main + 0.2 * (one + two), rtol=1e-6)
  np.testing.assert_allclose(loss.weight, 2.5)
  found = [loss.metrics[f"cross_entropy_{k}"] for k in (2, 3)]
  np.testing.assert_allclose(found, [one, two], rtol=1e-6)
  np.testing.assert_allclose(loss.metrics["cross_entropy"], main, rtol=1e-6)


def test_later_is_within_the_document():
  segments = jnp.array([[1, 1, 1, 2, 2, 0]])
  ctx = Context(jnp.zeros((1, 6), jnp.int32), segments)
  has = np.asarray(has_later(ctx, 1))[0]
  np.testing.assert_array_equal(has[:5], [1, 1, 0, 1, 0])
  alone = Context(jnp.zeros((1, 6), jnp.int32))
  np.testing.assert_array_equal(has_later(alone, 2)[0], [1, 1, 1, 1, 0, 0])
  np.testing.assert_array_equal(later(jnp.arange(4)[None], 1)[0, :3], [1, 2, 3])


@pytest.fixture(scope="module")
def model(model_config):
  # The objective that trains the modules is not part of a model.
  config = dataclasses.replace(model_config(), n_ahead=2)
  return config, lm.init(config, jax.random.key(0))


def test_a_module_is_a_layer_on_the_stream_and_what_comes(model):
  config, params = model
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 53, (2, 11)))
  run = jax.jit(functools.partial(lm.apply, config), static_argnames="ahead")
  output, plain = run(params, tokens, ahead=True), run(params, tokens)
  assert plain.ahead == () and len(output.ahead) == 2
  np.testing.assert_array_equal(plain.hidden_BTD, output.hidden_BTD)

  def normed(x):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps)

  # With scales of 1 the stream's norm is what the output matrix reads.
  stream = output.hidden_BTD
  ctx = Context(jnp.broadcast_to(jnp.arange(11), (2, 11)))
  for k, seen in enumerate(output.ahead):
    ours = params[f"ahead_{k}"]
    following = np.roll(params["embedding"][tokens], -(k + 1), axis=1)
    both = np.concatenate([normed(stream), normed(following)], axis=-1)
    joined = jnp.asarray(both @ ours["join"]["kernel"], jnp.float32)
    layer = jax.tree.map(lambda a: a[0], ours["layers"]["0"])
    stream, *_ = Block(config, config.layers[0]).apply(
      {"params": layer}, joined, ctx.at_layer(2 + k), None
    )
    # fp32 through two layers, whose small streams the norms make large.
    np.testing.assert_allclose(seen, normed(stream), rtol=0, atol=1e-4)


def test_a_module_sees_as_many_tokens_more_as_it_predicts_further(model):
  config, params = model

  def sees(k):
    """Those that module k's output at place 4 depends on."""

    def out(embedding):
      given = {**params, "embedding": embedding}
      output = lm.apply(config, given, jnp.arange(11)[None], ahead=True)
      return jnp.sin(output.ahead[k][0, 4]).sum()

    grad = np.asarray(jax.grad(out)(params["embedding"]))[:11]
    return np.flatnonzero(np.abs(grad).max(-1) > 1e-6)

  for k in (0, 1):
    np.testing.assert_array_equal(sees(k), np.arange(6 + k))


def test_it_accumulates_as_one_batch_and_every_module_learns(small, tmp_path):
  config = small(
    **{k.replace(".", "__"): v for k, v in MULTI.items()}, steps=8, opt__lr=1e-2
  )
  few = dataclasses.replace(config.data, batch_size=2)
  halves = find("accumulate")(dataclasses.replace(config, data=few))
  assert [c.holds for c in halves] == [True] * 3
  train(config, tmp_path / "run")
  lines = [x for x in read_metrics(tmp_path / "run") if "loss" in x]
  for name in ("cross_entropy", "cross_entropy_2", "cross_entropy_3"):
    assert lines[-1][name] < lines[0][name] - 0.1, name


def test_another_number_of_modules_is_another_run():
  one, two = (config_of(model__n_ahead=n) for n in (1, 2))
  assert one.hash != two.hash != resolve(base.get_config()).hash


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model.n_ahead": 2},
      "model.n_ahead=2: objective.name='next_t",
    ),
    (
      {"objective.name": "multi_token"},
      "nothing to train: model.n_ahead=0",
    ),
    (MULTI | {"model.n_ahead": -1}, "model.n_ahead=-1 must be the tokens"),
    (
      MULTI | {"objective.opts.multi_token.weight": -0.1},
      "objective.opts.multi_token.weight=-0.1 must not be negative",
    ),
    (
      MULTI | {"model.mup_base": 64, "model.mup_grows": "n_heads"},
      "muP has no rule for the modules",
    ),
  ],
)
def test_what_can_not_work_is_refused(changes, message):
  with pytest.raises(UserError) as error:
    resolve(base.get_config(), changes)
  assert message in str(error.value)
