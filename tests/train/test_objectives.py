"""Objectives: two tokens worked by hand, and padding that counts for none."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.models.lm import Output
from ablax.train.config import resolve
from ablax.train.objectives import OBJECTIVES
from ablax.train.step import make_objective

PROVES = ("objective:next_token",)

# Logits of two tokens over three words, as exp() gives them.
ODDS = [[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]
TARGETS = [2, 0]
WEIGHTS = [1.0, 0.5]
# fp32 logs of numbers near 1.
ROUNDING = 1e-6


def config_of(implementation, **changes):
  changes = {f"objective.{k}": v for k, v in changes.items()}
  sizes = {"d_model": 3, "n_heads": 1, "head_dim": 2, "vocab_size": 3}
  sizes |= {"implementation": implementation}
  return resolve(
    base.get_config(), changes | {f"model.{k}": v for k, v in sizes.items()}
  )


def stub(config, seen=None):
  """A model whose logits are its parameters, whatever it reads."""

  def apply(params, tokens, positions, segment_ids, *, dropout_key=None):
    if seen is not None:
      seen.append((tokens, positions, segment_ids, dropout_key))
    return Output(params["logits"], jnp.eye(3), None, config.model)

  return apply


def batch_of(targets=TARGETS, weights=WEIGHTS):
  targets = jnp.array([targets], jnp.int32)
  n = targets.shape[1]
  return {
    "tokens": jnp.zeros((1, n), jnp.int32),
    "targets": targets,
    "segment_ids": jnp.ones((1, n), jnp.int32),
    "positions": jnp.arange(n, dtype=jnp.int32)[None],
    "weights": jnp.array([weights], jnp.float32),
    "example_ids": jnp.array([4], jnp.int32),
  }


def loss_of(config, logits, batch, key=None):
  return make_objective(config)(stub(config), {"logits": logits}, batch, key)


LOGITS = jnp.log(jnp.array([ODDS]))
# Both rows of odds sum to 8: log Z is log 8 for each.
CE = math.log(8 / 5) + 0.5 * math.log(8 / 3)
Z = 1.5 * math.log(8) ** 2
# Smoothing 0.3 mixes in the mean of -log p over the three words.
UNIFORM = (math.log(8) - math.log(1 * 2 * 5) / 3) + 0.5 * (
  math.log(8) - math.log(3 * 3 * 2) / 3
)


def test_every_objective_has_a_hand_computed_case():
  """Here, or in a file of its own."""
  named = {f"objective:{name}" for name in OBJECTIVES.own}
  assert named == {*PROVES, "objective:multi_token"}  # test_multi_token.py


@pytest.mark.parametrize("implementation", ["reference", "xla"])
@pytest.mark.parametrize(
  ("changes", "total"),
  [
    ({}, CE),
    ({"z_loss": 0.01}, CE + 0.01 * Z),
    ({"label_smoothing": 0.3}, 0.7 * CE + 0.3 * UNIFORM),
    (
      {"z_loss": 0.01, "label_smoothing": 0.3},
      0.7 * CE + 0.3 * UNIFORM + 0.01 * Z,
    ),
  ],
  ids=str,
)
def test_next_token_on_two_tokens_by_hand(implementation, changes, total):
  loss = loss_of(config_of(implementation, **changes), LOGITS, batch_of())
  assert float(loss.sum) == pytest.approx(total, rel=ROUNDING)
  assert float(loss.weight) == 1.5
  # What is reported is the plain cross-entropy, whatever is minimised.
  assert float(loss.metrics["cross_entropy"]) == pytest.approx(CE, rel=ROUNDING)
  # Token 1 is likeliest where asked; token 2 shares the first place.
  assert float(loss.metrics["accuracy"]) == 1.5
  assert ("z" in loss.metrics) == ("z_loss" in changes)
  if "z" in loss.metrics:
    assert float(loss.metrics["z"]) == pytest.approx(Z, rel=ROUNDING)


def test_the_gradient_is_probability_minus_target_times_weight():
  config = config_of("xla")
  grad = jax.grad(lambda p: loss_of(config, p, batch_of()).sum)(LOGITS)
  p = np.array(ODDS) / 8
  want = (p - np.eye(3)[TARGETS]) * np.array(WEIGHTS)[:, None]
  np.testing.assert_allclose(grad[0], want, atol=ROUNDING)


@pytest.mark.parametrize("implementation", ["reference", "xla"])
def test_padding_has_no_weight(implementation):
  config = config_of(implementation, z_loss=0.01, label_smoothing=0.3)
  short = loss_of(config, LOGITS, batch_of())
  # What padding holds, wild as it may be, changes neither loss nor gradient.
  wild = jnp.array([[[9.0, -50.0, 3.0]]])
  logits = jnp.concatenate([LOGITS, wild], 1)
  padded = batch_of([*TARGETS, 1], [*WEIGHTS, 0.0])
  long = loss_of(config, logits, padded)
  for a, b in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
    assert float(a) == pytest.approx(float(b), rel=ROUNDING)
  grad = jax.grad(lambda p: loss_of(config, p, padded).sum)(logits)
  assert not np.asarray(grad)[0, 2].any() and np.asarray(grad)[0, :2].any()


def test_the_model_gets_the_batch_and_dropout_only_with_a_key():
  config = config_of("xla")
  objective, batch, seen = make_objective(config), batch_of(), []
  for key in (None, jax.random.key(0), jax.random.key(1)):
    objective(stub(config, seen), {"logits": LOGITS}, batch, key)
  for tokens, positions, segment_ids, _ in seen:
    assert tokens is batch["tokens"] and positions is batch["positions"]
    assert segment_ids is batch["segment_ids"]
  none, one, two = (dropout_key for *_, dropout_key in seen)
  assert none is None and one.example_ids_B is batch["example_ids"]
  assert int(one.seed) != int(two.seed)
