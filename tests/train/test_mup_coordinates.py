"""muP in training: rates, the hash, and the coordinate check of its rules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.models import lm
from ablax.models.mup import at_width, init_factor
from ablax.models.param import ParamSpec, path_of, zeros
from ablax.train.config import from_dict, resolve
from ablax.train.optimizers import OPTIMIZERS, make_optimizer
from ablax.train.optimizers.width import (
  by_gradient,
  entrywise,
  width_factors,
)
from ablax.train.proofs import mup

PROVES = ("feature:mup",)

TOY = {
  "model.d_model": 32,
  "model.n_layers": 2,
  "model.n_heads": 2,
  "model.ff_dim": 96,
  "model.vocab_size": 64,
  "model.mup_base": 32,
  "model.mup_grows": "head_dim",
  "model.implementation": "reference",
  "model.remat": "none",
  "data.seq_len": 32,
  "data.batch_size": 16,
  "mesh.data": 1,
}


def make(**changes):
  changes = {k.replace("__", "."): v for k, v in changes.items()}
  return resolve(base.get_config(), TOY | changes)


def wide(config, d_model):
  model = at_width(config.model, d_model)
  return dataclasses.replace(config, model=model)


def batches(n, rows=16, T=32, V=64):
  """Rows of a Markov chain that is worth learning."""
  rng = np.random.default_rng(0)
  chain = rng.dirichlet(np.full(V, 0.05), V).cumsum(1)
  tokens = np.zeros((n, rows, T + 1), np.int32)
  tokens[..., 0] = rng.integers(0, V, (n, rows))
  for t in range(T):
    u = rng.random((n, rows, 1))
    tokens[..., t + 1] = (chain[tokens[..., t]] < u).sum(-1).clip(max=V - 1)
  return [
    {
      "tokens": jnp.asarray(a[:, :-1]),
      "targets": jnp.asarray(a[:, 1:]),
      "segment_ids": jnp.ones((rows, T), jnp.int32),
      "positions": jnp.tile(jnp.arange(T), (rows, 1)),
      "weights": jnp.ones((rows, T)),
      "example_ids": jnp.arange(rows),
    }
    for a in tokens
  ]


# The coordinate check, and each rule broken on purpose.

NARROW, WIDE, SEEDS, UPDATES = 32, 128, 2, 8


def checked():
  """At a rate that learns something in eight updates."""
  return mup.prepared_config(make(opt__lr=1e-2))


@pytest.fixture(scope="module")
def narrow():
  """At the base width all of these are the same."""
  return mup.measure(checked(), [NARROW], batches(UPDATES), SEEDS)


def powers(config, narrow):
  moves = mup.measure(config, [WIDE], batches(UPDATES), SEEDS)
  both = {k: np.concatenate([narrow[k], moves[k]]) for k in moves}
  return mup.slopes([NARROW, WIDE], both)


@pytest.fixture(scope="module")
def intact(narrow):
  return powers(checked(), narrow)


def test_with_muP_updates_change_as_much_at_four_times_the_width(intact):
  watched = {"logits", "own_score", "mixer_out", "ffn_out", "stream"}
  assert intact.keys() == watched
  # -0.33 the logits, -0.22 a token's own score, -0.15 to -0.06 the others.
  for name, power in intact.items():
    assert mup.least(name) < power < mup.MOST, intact


def test_without_muP_updates_change_more_the_wider_the_model(narrow, intact):
  found = powers(mup.standard(checked()), narrow)
  # In the logits the initial weights' noise, which falls, hides a part.
  logits = found.pop("logits")
  assert min(found.values()) > mup.MOST, found  # 0.74 to 0.94
  assert logits > intact["logits"] + 0.4  # 0.16 and -0.33


@pytest.mark.parametrize(
  ("rule", "what"),
  [
    ("train.optimizers.adamw.width_factor", "stream"),
    ("models.mixers.attention.query_scale", "own_score"),
    ("models.lm.readout_scale", "logits"),
  ],
)
def test_a_rule_that_is_dropped_fails_the_check(
  narrow, intact, monkeypatch, rule, what
):
  monkeypatch.setattr(f"ablax.{rule}", lambda *_: 1.0)
  found = powers(checked(), narrow)
  assert found[what] > mup.MOST, found  # 0.87, 0.24 and 0.45
  assert found[what] > intact[what] + 0.4  # -0.06, -0.22 and -0.33


@pytest.mark.long
def test_the_proof_holds_on_a_small_config_and_draws(small, tmp_path):
  config = small(model__mup_base=32, model__mup_grows="n_heads", opt__lr=1e-2)
  file = tmp_path / "mup.png"
  checks = list(mup.prove(config, widths=(32, 128), figure=str(file)))
  assert [c.claim for c in checks if not c.holds] == []
  assert len(checks) == 6 and "same bits" in checks[0].seen
  assert file.read_bytes()[:4] == b"\x89PNG"


# Rates.


def spec(shape, base_shape, roles, axes=None):
  axes = axes or ("x",) * len(shape)
  return ParamSpec(shape, jnp.dtype("float32"), axes, zeros, roles, base_shape)


VOCAB = ("vocab", "embed")
SPECS = {
  "hidden": spec((3, 32, 64), (3, 8, 16), ("batch", "in", "out")),
  "down": spec((96, 32), (48, 8), ("in", "out")),
  "narrowing": spec((32, 5), (8, 5), ("in", "out")),
  "widening": spec((5, 32), (5, 8), ("in", "out")),
  "table": spec((50, 32), (50, 8), ("in", "out"), VOCAB),
  "unembedding": spec((50, 32), (50, 8), ("out", "in"), VOCAB),
  "scale": spec((32,), (8,), ()),
}


@pytest.mark.parametrize(
  ("name", "changes", "want"),
  [
    ("adamw", {}, (1 / 4, 1 / 2, 1 / 4, 1, 1, 1, 1)),
    ("lion", {}, (1 / 4, 1 / 2, 1 / 4, 1, 1, 1, 1)),
    ("adan", {}, (1 / 4, 1 / 2, 1 / 4, 1, 1, 1, 1)),
    ("schedule_free", {}, (1 / 4, 1 / 2, 1 / 4, 1, 1, 1, 1)),
    (
      "adafactor",
      {"scale_by_param": False},
      (1 / 4, 1 / 2, 1 / 4, 1, 1, 1, 1),
    ),
    ("sgd", {}, (1, 2, 1 / 4, 4, 4, 4, 4)),
    # 0.2 sqrt(max(in, out)), where the norm should be as sqrt(out / in).
    ("muon", {}, (1 / 2, 1, 1 / 4, 1, 1, 1, 1)),
    # sqrt(max(1, out / in)), which is so but where it is 1.
    ("muon", {"scale": "original"}, (1, 2**0.5, 1 / 2, 1, 1, 1, 1)),
  ],
)
def test_rates_are_those_of_the_table(name, changes, want):
  options = OPTIMIZERS.options(name)(**changes)
  rule = OPTIMIZERS.module(name).width_factor
  found = width_factors(name, rule, options, SPECS)
  assert found == pytest.approx(dict(zip(SPECS, want, strict=True)))


# Of the package mup 1.0.0 (microsoft/mup), with torch 2: base sizes d=8, ff=48,
# ours d=32, ff=96; std is of `mup.normal_(weight, std=1)` over 50 draws, rates
# are those of `MuAdamW` and `MuSGD` of lr=1, whose decays are their inverses.
# Without MuReadout of a narrowing map, which is table 8's there and table 3's
# here: the same function, and the same steps of Adam.
PACKAGE = {
  # (std, rate of Adam, rate of SGD)
  "hidden": (0.5, 0.25, 1.0),
  "down": (0.707, 0.5, 2.0),
  "widening": (0.996, 1.0, 4.0),
  "table": (1.0, 1.0, 4.0),
  "unembedding": (1.002, 1.0, 4.0),
  "scale": (None, 1.0, 4.0),
}


def test_factors_are_those_of_the_package_mup():
  for name, (std, adam, sgd) in PACKAGE.items():
    assert entrywise(None, SPECS[name]) == pytest.approx(adam), name
    assert by_gradient(None, SPECS[name]) == pytest.approx(sgd), name
    if std is not None:
      assert init_factor(SPECS[name]) == pytest.approx(std, abs=0.005), name


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("lamb", "relative to a parameter's size"),
    ("adafactor", "scale_by_param"),
    ("shampoo", "between those of Adam and of Muon"),
    ("soap", "between those of Adam and of Muon"),
    ("sophia", "grows with the width"),
  ],
)
def test_an_optimizer_without_a_rule_is_refused_with_the_reason(name, reason):
  config = make(opt__name=name)
  specs = lm.param_specs(config.model)
  with pytest.raises(UserError, match=f"opt.name='{name}': .*{reason}"):
    make_optimizer(config.opt, lambda _: 0.1, specs)
  plain = lm.param_specs(mup.standard(config).model)
  make_optimizer(config.opt, lambda _: 0.1, plain)


def test_every_optimizer_says_what_it_does_with_the_width():
  for name in OPTIMIZERS.own:
    assert callable(OPTIMIZERS.module(name).width_factor), name
  with pytest.raises(UserError, match="'mine': its file has no width_factor"):
    width_factors("mine", None, None, SPECS)


def test_rates_fall_with_the_width_and_decay_does_not():
  """With gradients of 0 a weight loses lr * decay of itself at any width."""
  config = wide(make(opt__weight_decay=0.5, opt__lr=0.1), 128)
  specs = lm.param_specs(config.model)
  optimizer = make_optimizer(config.opt, lambda _: jnp.float32(0.1), specs)
  ones = jax.tree.map(lambda s: jnp.ones(s.shape), specs)
  state, count = optimizer.init(ones), jnp.int32(0)

  def moves(grad):
    grads = jax.tree.map(lambda a: grad * a, ones)
    updates, _ = optimizer.update(grads, state, ones, count=count)
    flat = jax.tree_util.tree_flatten_with_path(updates)[0]
    return {path_of(p): float(a.mean()) for p, a in flat}

  still, moved = moves(0.0), moves(1.0)
  up, table = "groups/0/ffn/up/kernel", "embedding"
  assert still[up] == still[table] == pytest.approx(-0.05)
  assert moved[up] - still[up] == pytest.approx(-0.1 / 4)
  assert moved[table] - still[table] == pytest.approx(-0.1)
  assert still["final_norm/scale"] == 0


# The config.


def test_keys_that_came_later_leave_old_hashes_and_old_files_alone():
  plain = resolve(base.get_config())
  assert plain.hash == "f149c9edfe"  # before there was muP
  old = plain.as_dict()
  del old["model"]["mup_base"], old["model"]["mup_grows"]
  assert from_dict(old) == plain
  on = resolve(
    base.get_config(), {"model.mup_base": 64, "model.mup_grows": "n_heads"}
  )
  assert on.hash != plain.hash and from_dict(on.as_dict()) == on
