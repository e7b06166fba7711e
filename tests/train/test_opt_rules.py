"""Rules of the learning rate and the decay: by path, and by depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from toy import opt

from ablax.errors import UserError
from ablax.models.lm import depths, param_specs
from ablax.models.param import path_of
from ablax.train.optimizers import make_optimizer
from ablax.train.optimizers.rules import layer_factors, match_rules
from ablax.train.schedules import make_schedule

PROVES = ("feature:layer_decay",)

TREE = {
  "embedding": jnp.array([[1.0, -2.0], [0.5, 3.0]]),
  "groups": {
    "norm": {"scale": jnp.array([1.0, 2.0])},
    "q": {"kernel": jnp.array([[3.0, -1.0]]), "bias": jnp.array([-4.0])},
  },
}
GRADS = jax.tree.map(lambda a: jnp.sin(3 * a) + 0.1, TREE)


def specs_of(params):
  return jax.tree.map(
    lambda a: toy.spec(a.shape, ("embed",) * a.ndim, ()), params
  )


def moved(config, optimizer=None, n=1, params=TREE, grads=GRADS, specs=None):
  """The parameters after n updates, gradients growing."""
  specs = specs or specs_of(params)
  optimizer = optimizer or make_optimizer(
    config, make_schedule(config, 9), specs
  )
  state = jax.jit(optimizer.init)(params)
  update = jax.jit(optimizer.update)
  for count in range(n):
    scaled = jax.tree.map(lambda g, c=count: g * (c + 1), grads)
    updates, state = update(scaled, state, params, count=jnp.int32(count))
    params = optax.apply_updates(params, updates)
  return params


def test_adamw_is_that_of_optax_with_a_mask_of_its_decay():
  config = opt(lr=0.1, warmup_steps=3, weight_decay=0.2, schedule="cosine")
  mask = {
    "embedding": True,
    "groups": {"norm": {"scale": False}, "q": {"kernel": True, "bias": False}},
  }
  schedule = make_schedule(config, 9)
  theirs = optax.with_extra_args_support(
    optax.adamw(schedule, 0.9, 0.95, 1e-8, weight_decay=0.2, mask=mask)
  )
  # Rounding of fp32, five updates of size 0.1 in a row.
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-7),
    moved(config, n=5),
    moved(config, theirs, 5),
  )


def test_the_first_rule_that_matches_counts():
  rules = (("q/", 0.5), ("^embedding$", 2.0), (".*", 1.0))
  assert match_rules("opt.lr_rules", rules, specs_of(TREE)) == {
    "embedding": 2.0,
    "groups": {"norm": {"scale": 1.0}, "q": {"kernel": 0.5, "bias": 0.5}},
  }


@pytest.mark.parametrize(
  ("rules", "message"),
  [
    (
      (("kernel|bias|embedding", 1.0),),
      "opt.lr_rules has no rule for the parameter groups/norm/scale; end it"
      " with ('.*', 1.0)",
    ),
    (
      (("kernal", 0.5), (".*", 1.0)),
      "opt.lr_rules: ('kernal', 0.5) matches no parameter; there is:"
      " embedding, groups/norm/scale, groups/q/bias, groups/q/kernel",
    ),
    (
      (("q/", 0.5), ("bias$", 0.0), (".*", 1.0)),
      "opt.lr_rules: ('bias$', 0.0) covers nothing, since an earlier rule"
      " matches groups/q/bias and all else that it does; the first match"
      " counts: put it first, or drop it",
    ),
    (
      ((".*", 0.5), (".*", 1.0)),
      "opt.lr_rules: ('.*', 1.0) covers nothing, since an earlier rule matches"
      " embedding and all else that it does; the first match counts: put it"
      " first, or drop it",
    ),
    (
      (("q/", 2.0), ("", 0.5), (".*", 3.0)),
      "opt.lr_rules: ('.*', 3.0) covers nothing, since an earlier rule matches"
      " embedding and all else that it does; the first match counts: put it"
      " first, or drop it",
    ),
    (
      ((".*", 0.5), ("embedding", 1.0)),
      "opt.lr_rules: ('embedding', 1.0) covers nothing, since an earlier rule"
      " matches embedding and all else that it does; the first match counts:"
      " put it first, or drop it",
    ),
  ],
)
def test_a_rule_that_covers_nothing_or_a_parameter_without_one(rules, message):
  with pytest.raises(UserError) as caught:
    make_optimizer(opt(lr_rules=rules), lambda _: 1.0, specs_of(TREE))
  assert str(caught.value) == message


def test_a_closing_catch_all_and_the_rules_of_base_may_cover_nothing():
  specs = {"kernel": toy.spec((2, 2), ("embed", "ff"), ())}
  rules = (("kernel", 2.0), (".*", 1.0))
  assert match_rules("opt.lr_rules", rules, specs) == {"kernel": 2.0}
  base = opt().decay_rules
  assert match_rules("opt.decay_rules", base, specs) == {"kernel": 1.0}
  with pytest.raises(UserError, match="matches no parameter"):
    match_rules("opt.lr_rules", base, specs)
  # But not where they come too late.
  specs = {"bias": toy.spec((2,), ("ff",), ())}
  with pytest.raises(UserError, match="covers nothing, since an earlier rule"):
    match_rules("opt.decay_rules", base[::-1], specs)


def test_lr_rules_scale_the_step_and_zero_freezes():
  rules = (("kernel", 0.25), ("embedding", 0.0), (".*", 1.0))
  steps = {}
  for name, changes in (("plain", {}), ("ruled", {"lr_rules": rules})):
    new = moved(opt(lr=0.1, weight_decay=0.5, **changes))
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


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_decay_never_touches_scales_and_biases_by_default(model_config, norm):
  specs = param_specs(model_config(norm=norm, use_bias=True))
  params = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), specs)
  zero = jax.tree.map(jnp.zeros_like, params)
  new = moved(opt(weight_decay=0.5), params=params, grads=zero, specs=specs)
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), new, params)
  flat = jax.tree_util.tree_flatten_with_path(changed)[0]
  got = {path_of(path) for path, yes in flat if yes}
  paths = {path_of(path) for path, _ in flat}
  kept = {p for p in paths if p.split("/")[-1] in ("scale", "bias")}
  assert kept and got == paths - kept
  assert "embedding" in got


def test_decay_rules_are_factors_of_the_weight_decay():
  rules = (("kernel", 2.0), ("scale", 1.0), (".*", 0.0))
  config = opt(lr=0.1, weight_decay=0.5, decay_rules=rules)
  new = moved(config, grads=jax.tree.map(jnp.zeros_like, TREE))["groups"]
  old = TREE["groups"]
  for got, was, factor in (
    (new["q"]["kernel"], old["q"]["kernel"], 2.0),
    (new["norm"]["scale"], old["norm"]["scale"], 1.0),
    (new["q"]["bias"], old["q"]["bias"], 0.0),
  ):
    np.testing.assert_allclose(got, was * (1 - 0.1 * 0.5 * factor), rtol=1e-6)


def test_the_rate_follows_the_step_where_updates_were_skipped():
  config = opt("sgd")
  optimizer = make_optimizer(
    config, lambda step: step.astype(jnp.float32), specs_of(TREE)
  )
  state = optimizer.init(TREE)
  places = {"count": jnp.int32(0), "step": jnp.int32(3)}
  updates, _ = optimizer.update(GRADS, state, TREE, **places)
  for update, grad in zip(*map(jax.tree.leaves, (updates, GRADS)), strict=True):
    np.testing.assert_allclose(update, -3 * grad, rtol=1e-6)


# Depth.


def test_depth_counts_layers_through_groups_and_tail(model_config):
  config = model_config(
    n_layers=5, pattern=("attention", "attention"), tie_embeddings=False
  )
  specs = param_specs(config)
  deep = depths(specs)
  assert deep["embedding"] == 0
  assert deep["unembedding"] == deep["final_norm"]["scale"] == 5

  def layers(group, i):
    leaves = jax.tree.leaves(deep[group][i])
    assert all((leaf == leaves[0]).all() for leaf in leaves)
    return leaves[0].tolist()

  assert layers("groups", "0") == [1, 3] and layers("groups", "1") == [2, 4]
  assert layers("tail", "0") == [5]
  assert jax.tree.structure(deep) == jax.tree.structure(specs)


def test_layer_decay_falls_towards_the_embedding(model_config):
  specs = param_specs(model_config(n_layers=3))
  factors = layer_factors(0.5, specs)
  assert factors["embedding"] == 0.125
  assert factors["final_norm"]["scale"] == 1.0
  kernel = factors["groups"]["0"]["ffn"]["up"]["kernel"]
  assert kernel.shape == (3, 1, 1)
  assert kernel.ravel().tolist() == [0.25, 0.5, 1.0]


def test_layer_decay_scales_the_step_and_the_decay_of_each_layer():
  specs = toy.scanned()
  params, grads = toy.draw(specs, 0), toy.draw(specs, 1)
  steps = {}
  for factor in (1.0, 0.5):
    config = opt(name="sgd", lr=0.1, weight_decay=0.5, layer_decay=factor)
    new = moved(config, params=params, grads=grads, specs=specs)
    steps[factor] = jax.tree.map(lambda a, b: np.asarray(a - b), new, params)
  for i, scale in enumerate([0.25, 0.5, 1.0]):
    for plain, layered in zip(
      *(jax.tree.leaves(steps[f]["groups"]) for f in (1.0, 0.5)), strict=True
    ):
      # A difference of numbers of size 1.
      np.testing.assert_allclose(layered[i], scale * plain[i], atol=3e-7)
  np.testing.assert_allclose(
    steps[0.5]["embedding"], 0.125 * steps[1.0]["embedding"], atol=3e-7
  )


def test_a_layer_decay_outside_its_range_is_refused():
  for value in (0.0, 1.5):
    with pytest.raises(UserError, match=rf"opt.layer_decay={value} must be"):
      opt(layer_decay=value)
