"""Optimizers: known optima, optax's AdamW, rules, and where the state lies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.models.param import ParamSpec, path_of, zeros
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout
from ablax.train.config import resolve
from ablax.train.optimizers import OPTIMIZERS, make_optimizer, match_rules
from ablax.train.schedules import make_schedule
from ablax.train.setup import Setup

PROVES = ("optimizer:adamw", "optimizer:sgd")


def opt(**changes):
  changes = {f"opt.{k.replace('__', '.')}": v for k, v in changes.items()}
  return resolve(base.get_config(), changes | {"steps": 1000}).opt


def specs_of(params):
  return jax.tree.map(
    lambda a: ParamSpec(a.shape, a.dtype, ("embed",) * a.ndim, zeros), params
  )


TREE = {
  "embedding": jnp.array([[1.0, -2.0], [0.5, 3.0]]),
  "groups": {
    "norm": {"scale": jnp.array([1.0, 2.0])},
    "q": {"kernel": jnp.array([[3.0, -1.0]]), "bias": jnp.array([-4.0])},
  },
}
GRADS = jax.tree.map(lambda a: jnp.sin(3 * a) + 0.1, TREE)

# What reaches the optimum, and how; conditions of 100.
RECIPES = {
  "adamw": {"lr": 0.05},
  "sgd": {"lr": 0.015},
}


def test_every_optimizer_has_its_recipe():
  assert set(RECIPES) == set(OPTIMIZERS)
  assert {f"optimizer:{name}" for name in RECIPES} == set(PROVES)


@pytest.mark.parametrize("name", RECIPES)
def test_each_reaches_the_optimum_of_an_ill_conditioned_quadratic(name):
  curvature = jnp.logspace(0, 2, 6)
  optimum = jnp.array([3.0, -2.0, 1.0, 0.5, -1.5, 2.0])
  params = {"x": jnp.zeros(6)}
  config = opt(
    name=name,
    schedule="linear",
    weight_decay=0.0,
    **RECIPES[name],
  )
  steps = 600
  optimizer = make_optimizer(
    config, make_schedule(config, steps), specs_of(params)
  )

  def step(carry, count):
    params, state = carry
    grads = {"x": curvature * (params["x"] - optimum)}
    updates, state = optimizer.update(grads, state, params, count=count)
    return (optax.apply_updates(params, updates), state), None

  (params, _), _ = jax.lax.scan(
    step, (params, optimizer.init(params)), jnp.arange(steps)
  )
  # The learning rate ends at 1/600 of its peak: no oscillation is left.
  np.testing.assert_allclose(params["x"], optimum, atol=1e-3)


def walk(config, optimizer, n, params=TREE, grads=GRADS):
  state = jax.jit(optimizer.init)(params)
  update = jax.jit(optimizer.update)
  for count in range(n):
    scaled = jax.tree.map(lambda g, c=count: g * (c + 1), grads)
    updates, state = update(scaled, state, params, count=jnp.int32(count))
    params = optax.apply_updates(params, updates)
  return params


def test_adamw_is_that_of_optax():
  config = opt(lr=0.1, warmup_steps=3, weight_decay=0.2)
  schedule = make_schedule(config, 5)
  ours = walk(config, make_optimizer(config, schedule, specs_of(TREE)), 5)
  mask = {
    "embedding": True,
    "groups": {"norm": {"scale": False}, "q": {"kernel": True, "bias": False}},
  }
  theirs = optax.with_extra_args_support(
    optax.adamw(schedule, 0.9, 0.95, 1e-8, weight_decay=0.2, mask=mask)
  )
  # Rounding of fp32, five updates of size 0.1 in a row.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-7),
    ours,
    walk(config, theirs, 5),
  )


def test_the_first_step_of_adamw_by_hand():
  config = opt(lr=0.1, schedule="constant", weight_decay=0.5)
  params = {"kernel": jnp.array([2.0, -3.0, 4.0])}
  grads = {"kernel": jnp.array([0.01, -7.0, 0.0])}
  optimizer = make_optimizer(
    config, make_schedule(config, 10), specs_of(params)
  )
  got = walk(config, optimizer, 1, params, grads)["kernel"]
  # Both means are unbiased: g / |g|, whatever its size; then 0.5 * weight.
  want = [
    2.0 - 0.1 * (1 + 0.5 * 2.0),
    -3.0 - 0.1 * (-1 + 0.5 * -3.0),
    4.0 - 0.1 * (0 + 0.5 * 4.0),
  ]
  np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_by_hand(nesterov):
  config = opt(
    name="sgd",
    lr=0.1,
    schedule="constant",
    weight_decay=0.0,
    opts__sgd__momentum=0.5,
    opts__sgd__nesterov=nesterov,
  )
  params = {"x": jnp.array(1.0)}
  optimizer = make_optimizer(
    config, make_schedule(config, 10), specs_of(params)
  )
  # Gradients 1 and 2 (walk scales them): traces 1 and 2.5.
  got = walk(config, optimizer, 2, params, {"x": jnp.array(1.0)})["x"]
  directions = (1 + 0.5 * 1, 2 + 0.5 * 2.5) if nesterov else (1, 2.5)
  assert float(got) == pytest.approx(1 - 0.1 * sum(directions), rel=1e-6)


def test_sgd_without_momentum_has_no_state():
  config = opt(name="sgd", opts__sgd__momentum=0.0)
  optimizer = make_optimizer(config, lambda _: 1.0, specs_of(TREE))
  assert not jax.tree.leaves(optimizer.init(TREE))


# Rules.


def test_the_first_rule_that_matches_counts():
  factors = match_rules(
    "opt.lr_rules",
    (("q/", 0.5), ("bias$", 0.0), ("^embedding$", 2.0), (".*", 1.0)),
    specs_of(TREE),
  )
  assert factors == {
    "embedding": 2.0,
    "groups": {"norm": {"scale": 1.0}, "q": {"kernel": 0.5, "bias": 0.5}},
  }


def test_a_parameter_without_a_rule_is_named():
  config = opt(lr_rules=(("kernel|bias|embedding", 1.0),))
  with pytest.raises(UserError) as caught:
    make_optimizer(config, lambda _: 1.0, specs_of(TREE))
  assert str(caught.value) == (
    "opt.lr_rules has no rule for the parameter groups/norm/scale; end it"
    " with ('.*', 1.0)"
  )


def test_lr_rules_scale_the_step_and_zero_freezes():
  rules = (("kernel", 0.25), ("embedding", 0.0), (".*", 1.0))
  steps = {}
  for name, changes in (("plain", {}), ("ruled", {"lr_rules": rules})):
    config = opt(lr=0.1, weight_decay=0.5, **changes)
    optimizer = make_optimizer(config, make_schedule(config, 9), specs_of(TREE))
    new = walk(config, optimizer, 1)
    steps[name] = jax.tree.map(lambda a, b: np.asarray(a - b), new, TREE)
  plain, ruled = steps["plain"], steps["ruled"]
  assert not ruled["embedding"].any() and plain["embedding"].any()
  for kind, factor in (("kernel", 0.25), ("bias", 1.0)):
    np.testing.assert_allclose(
      # A difference of numbers of size 3 that differ by 0.05.
      ruled["groups"]["q"][kind],
      factor * plain["groups"]["q"][kind],
      atol=5e-7,
    )


def decayed(config, specs, params):
  """The parameters that move without a gradient."""
  optimizer = make_optimizer(config, make_schedule(config, 9), specs)
  zero = jax.tree.map(jnp.zeros_like, params)
  new = walk(config, optimizer, 1, params, zero)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), new, params)
  flat = jax.tree_util.tree_flatten_with_path(moved)[0]
  return {path_of(path) for path, yes in flat if yes}


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_decay_never_touches_scales_and_biases_by_default(model_config, norm):
  from ablax.models.lm import param_specs

  specs = param_specs(model_config(norm=norm, use_bias=True))
  params = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), specs)
  got = decayed(opt(weight_decay=0.5), specs, params)
  paths = {
    path_of(p) for p, _ in jax.tree_util.tree_flatten_with_path(specs)[0]
  }
  kept = {p for p in paths if p.split("/")[-1] in ("scale", "bias")}
  assert kept and got == paths - kept
  assert "embedding" in got


def test_decay_rules_are_factors_of_the_weight_decay():
  config = opt(
    lr=0.1,
    schedule="constant",
    weight_decay=0.5,
    decay_rules=(("kernel", 2.0), ("scale", 1.0), (".*", 0.0)),
  )
  optimizer = make_optimizer(config, make_schedule(config, 9), specs_of(TREE))
  new = walk(config, optimizer, 1, TREE, jax.tree.map(jnp.zeros_like, TREE))
  groups = new["groups"]
  for got, was, factor in (
    (groups["q"]["kernel"], TREE["groups"]["q"]["kernel"], 2.0),
    (groups["norm"]["scale"], TREE["groups"]["norm"]["scale"], 1.0),
    (groups["q"]["bias"], TREE["groups"]["q"]["bias"], 0.0),
  ):
    np.testing.assert_allclose(got, was * (1 - 0.1 * 0.5 * factor), rtol=1e-6)


# Where the state lies.


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("rules", ["fsdp", "replicated"])
def test_the_state_lies_where_its_parameters_lie(small, name, rules):
  config = small(opt__name=name).with_vocab(64)
  mesh = make_mesh(MeshConfig.of(data=2, fsdp=2, tensor=2))
  setup = Setup.of(config, Layout.of(mesh, rules))
  placed = setup.shardings.opt_state
  like_params = jax.tree.structure(setup.shardings.params)
  found = 0
  for part in jax.tree.leaves(
    placed, is_leaf=lambda t: jax.tree.structure(t) == like_params
  ):
    if jax.tree.structure(part) == like_params:
      assert part == setup.shardings.params
      found += 1
    else:
      assert part == setup.layout.replicated()
  assert found == {"adamw": 2, "sgd": 1}[name]


def test_the_first_state_is_placed_as_said(small):
  mesh = make_mesh(MeshConfig.of(data=2, fsdp=2, tensor=2))
  config = small().with_vocab(64)
  setup = Setup.of(config, Layout.of(mesh, "fsdp"))
  state = setup.init()
  jax.tree.map(
    lambda a, s: np.testing.assert_(a.sharding.is_equivalent_to(s, a.ndim)),
    state,
    setup.shardings,
  )
  kernel = state.opt_state["direction"].mu["groups"]["0"]["ffn"]["up"]["kernel"]
  # [L, D, F]: D over fsdp, F over tensor; a quarter on each device.
  assert kernel.addressable_shards[0].data.size * 4 == kernel.size
