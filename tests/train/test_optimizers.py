"""Optimizers: known optima, scanned layers as unrolled ones, first steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from toy import opt

from ablax.errors import UserError
from ablax.train.optimizers import OPTIMIZERS, eval_params, make_optimizer
from ablax.train.schedules import make_schedule

PROVES = (
  "optimizer:adamw",
  "optimizer:sgd",
  "optimizer:lion",
  "optimizer:adan",
  "optimizer:adafactor",
  "optimizer:lamb",
  "optimizer:muon",
  "optimizer:shampoo",
  "optimizer:soap",
  "optimizer:sophia",
  "optimizer:schedule_free",
)

# What reaches the optimum of a quadratic of condition 100.
RECIPES = {
  "adamw": {"lr": 0.05},
  "sgd": {"lr": 0.015},
  "lion": {"lr": 0.02},
  "adan": {"lr": 0.05},
  "adafactor": {"lr": 0.05},
  "lamb": {"lr": 0.05},
  "muon": {"lr": 0.05},
  "shampoo": {"lr": 0.05},
  "soap": {"lr": 0.05},
  "sophia": {"lr": 0.02},
  "schedule_free": {"lr": 0.1, "schedule": "constant"},
}

# What shows every path of an optimizer in a few updates.
SHORT = {
  "soap": {"soap__every": 2},
  "shampoo": {"shampoo__every": 2, "shampoo__max_dim": 4},
  "sophia": {"sophia__every": 2},
}


def test_every_optimizer_has_its_recipe():
  assert set(RECIPES) == set(OPTIMIZERS.own)
  assert {f"optimizer:{name}" for name in RECIPES} == set(PROVES)


def walk(config, specs, params, gradient, steps, schedule=None):
  """The weights to evaluate with after `steps` updates.

  `gradient(params, count)` gives the gradient, and that of sampled labels.
  """
  schedule = schedule or make_schedule(config, steps)
  optimizer = make_optimizer(config, schedule, specs)

  @jax.jit
  def run(params):
    def step(carry, count):
      params, state = carry
      grads, sampled = gradient(params, count)
      updates, state = optimizer.update(
        grads,
        state,
        params,
        count=count,
        sampled_grads=lambda: (sampled, jnp.float32(7.0)),
      )
      return (optax.apply_updates(params, updates), state), None

    carry = params, optimizer.init(params)
    (params, state), _ = jax.lax.scan(step, carry, jnp.arange(steps))
    return eval_params(config, state, params)

  return run(params)


@pytest.mark.parametrize("name", RECIPES)
def test_each_reaches_the_optimum_of_an_ill_conditioned_quadratic(name):
  specs = toy.scanned()
  optimum = toy.draw(specs, 1)
  curvature = jax.tree.map(
    lambda s: jnp.logspace(0, 2, s.size).reshape(s.shape), specs
  )

  def gradient(params, count):
    grads = jax.tree.map(
      lambda c, p, o: c * (p - o), curvature, params, optimum
    )
    # Labels of this curvature: 7 examples have 7 times its square root's.
    return grads, jax.tree.map(lambda c: jnp.sqrt(c / 7), curvature)

  config = opt(name=name, **{"schedule": "linear"} | RECIPES[name])
  params = walk(config, specs, toy.draw(specs, 2), gradient, 1000)
  # The learning rate ends at 1/1000 of its peak: no oscillation is left.
  for got, want in zip(
    jax.tree.leaves(params), jax.tree.leaves(optimum), strict=True
  ):
    np.testing.assert_allclose(got, want, atol=2e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_scanned_layers_move_as_unrolled_ones(name):
  config = opt(name=name, weight_decay=0.1, lr=0.1, **SHORT.get(name, {}))
  inputs = [toy.draw(toy.scanned(), seed) for seed in range(6)]

  def gradient(shape):
    grads = jax.tree.map(lambda *a: jnp.stack(a), *map(shape, inputs[1:]))

    def at(params, count):
      now = jax.tree.map(lambda g, p: g[count] + 0.1 * p, grads, params)
      return now, jax.tree.map(jnp.cos, now)

    return at

  scanned = walk(
    config, toy.scanned(), inputs[0], gradient(lambda tree: tree), 5
  )
  unrolled = walk(
    config, toy.unrolled(), toy.unroll(inputs[0]), gradient(toy.unroll), 5
  )
  # The same numbers, whose sums XLA may order in another way: a few
  # roundings, which inverse roots and orthogonalisation multiply.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
    toy.unroll(scanned),
    unrolled,
  )


# By hand.


def walk_by_hand(config, x, gradients):
  specs = {"scale": toy.spec(x.shape, ("norm",) * x.ndim, ())}
  stacked = jnp.asarray(gradients)

  def gradient(params, count):
    return {"scale": stacked[count]}, {"scale": stacked[count]}

  params = {"scale": x}
  rate = make_schedule(config, 10)
  return walk(config, specs, params, gradient, len(gradients), rate)["scale"]


EVERYWHERE = ((".*", 1.0),)


def test_the_first_step_of_adamw_by_hand():
  config = opt(lr=0.1, weight_decay=0.5, decay_rules=EVERYWHERE)
  x = jnp.array([2.0, -3.0, 4.0])
  got = walk_by_hand(config, x, [[0.01, -7.0, 0.0]])
  # Both means are unbiased: g / |g|, whatever its size; then 0.5 * weight.
  want = [
    2.0 - 0.1 * (1 + 0.5 * 2.0),
    -3.0 - 0.1 * (-1 + 0.5 * -3.0),
    4.0 - 0.1 * (0 + 0.5 * 4.0),
  ]
  np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_by_hand(nesterov):
  config = opt(name="sgd", lr=0.1, sgd__momentum=0.5, sgd__nesterov=nesterov)
  got = walk_by_hand(config, jnp.array([1.0]), [[1.0], [2.0]])
  # Traces 1 and 2.5.
  directions = (1 + 0.5 * 1, 2 + 0.5 * 2.5) if nesterov else (1, 2.5)
  assert float(got[0]) == pytest.approx(1 - 0.1 * sum(directions), rel=1e-6)


def test_sgd_without_momentum_has_no_state():
  config = opt(name="sgd", sgd__momentum=0.0)
  optimizer = make_optimizer(config, lambda _: 1.0, toy.scanned())
  assert not jax.tree.leaves(optimizer.init(toy.draw(toy.scanned(), 0)))


def test_two_steps_of_sophia_by_hand():
  config = opt(
    name="sophia",
    lr=0.1,
    sophia__b1=0.5,
    sophia__b2=0.5,
    sophia__gamma=0.5,
    sophia__every=2,
  )
  got = walk_by_hand(config, jnp.array([1.0, 1.0]), [[1.0, 0.1], [2.0, 0.1]])
  # h = 0.5 * 7 * g^2 of the first step, kept in the second: 3.5 and 0.035.
  # m: 0.5, then 1.25; 0.05, then 0.075. The second entry is clipped.
  want = [1 - 0.1 * (0.5 + 1.25) / 1.75, 1 - 0.1 * 2]
  np.testing.assert_allclose(got, want, rtol=2e-6)


def test_schedule_free_averages_what_its_steps_reach_by_hand():
  config = opt(
    name="schedule_free",
    lr=0.1,
    schedule="linear",
    schedule_free__b2=0.0,
    schedule_free__weight_power=1.0,
  )
  got = walk_by_hand(config, jnp.array([1.0]), [[4.0], [-2.0], [3.0]])
  # With b2 = 0 each step of z is the sign times 0.1, 0.09, 0.08; the weights
  # are 1, 2, 3, since the largest rate so far stays that of the first step.
  want = (1 * 0.9 + 2 * 0.99 + 3 * 0.91) / 6
  assert float(got[0]) == pytest.approx(want, rel=1e-6)


# What is refused.


@pytest.mark.parametrize(
  ("option", "value", "rule"),
  [
    ("adamw__b1", 1.0, "must be in [0, 1)"),
    ("sgd__momentum", -0.1, "must be in [0, 1)"),
    ("lion__b2", 2.0, "must be in [0, 1)"),
    ("adan__eps", 0.0, "must be positive"),
    ("adafactor__decay_power", 0.0, "must be in (0, 1]"),
    ("adafactor__clip", -1.0, "must be at least 0"),
    ("lamb__b2", 1.0, "must be in [0, 1)"),
    ("muon__scale", "orignal", "did you mean 'original'?"),
    ("muon__ns_steps", 0, "must be at least 1"),
    ("shampoo__graft", "adm", "did you mean 'adam'?"),
    ("shampoo__b2", 1.0, "use b2 < 1, or graft='sgd' or 'none'"),
    ("shampoo__max_dim", 0, "must be at least 1"),
    ("soap__every", 0, "must be at least 1"),
    ("sophia__gamma", 0.0, "must be positive"),
    ("schedule_free__b1", 0.0, "must be in (0, 1)"),
    ("muon__adam_factor", np.inf, "must be at least 0 and finite"),
    ("adamw__eps", np.nan, "must be positive"),
    # A device has no such numbers.
    ("adamw__eps", 1e-40, "must be positive, in float32 too, where it is 0"),
    ("adamw__b2", 1 - 1e-9, "must be in [0, 1), in float32 too, where it is 1"),
  ],
)
def test_a_bad_option_is_named_with_its_value_and_rule(option, value, rule):
  name, _, field = option.partition("__")
  with pytest.raises(UserError) as caught:
    opt(name=name, **{option: value})
  text = str(caught.value)
  assert f"opt.opts.{name}.{field}={value!r}" in text and rule in text


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo"])
def test_a_model_without_a_matrix_is_no_case_for_a_matrix_optimizer(name):
  specs = {"scale": toy.spec((3, 5), ("norm", "norm"), ())}
  with pytest.raises(UserError, match=f"opt.name='{name}' is for matrices"):
    make_optimizer(opt(name=name), lambda _: 1.0, specs)
