"""Averages of the weights: worked in float64, and what is evaluated."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from toy import opt

from ablax.errors import UserError
from ablax.train.averages import AVERAGES
from ablax.train.optimizers import eval_params, make_optimizer

PROVES = ("average:none", "average:ema", "average:latest")


def walk(config, steps, dtype=jnp.float32):
  """The weights after each update, and those evaluated, before any too."""
  specs = {"scale": toy.spec((5,), ("norm",), ())}
  params = jax.tree.map(lambda a: a.astype(dtype), toy.draw(specs, 0))
  optimizer = make_optimizer(config, lambda _: 0.3, specs)

  @jax.jit
  def update(params, state, count):
    p32 = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    grads = jax.tree.map(lambda p: jnp.sin(p + count), p32)
    updates, state = optimizer.update(grads, state, p32, count=count)
    params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
    return params, state

  state = optimizer.init(jax.tree.map(lambda p: p.astype(jnp.float32), params))
  trained, evaluated = [params], [eval_params(config, state, params)]
  for count in range(steps):
    params, state = update(params, state, jnp.int32(count))
    trained.append(params)
    evaluated.append(eval_params(config, state, params))
  return [
    [np.asarray(p["scale"].astype(jnp.float32), np.float64) for p in some]
    for some in (trained, evaluated)
  ]


def test_every_average_is_proven():
  assert {f"average:{name}" for name in AVERAGES} == set(PROVES)


def test_none_evaluates_the_weights_themselves():
  trained, evaluated = walk(opt(average="none"), 3)
  np.testing.assert_array_equal(trained, evaluated)


@pytest.mark.parametrize("decay", [0.5, 0.999, 0.999999, 1.0])
def test_ema_weighs_each_update_by_its_age_and_forgets_the_start(decay):
  trained, evaluated = walk(opt(average="ema", ema__decay=decay), 12)
  np.testing.assert_array_equal(evaluated[0], trained[0])
  for t in range(1, 13):
    weights = decay ** np.arange(t - 1, -1, -1.0)
    want = np.average(trained[1 : t + 1], axis=0, weights=weights)
    np.testing.assert_allclose(evaluated[t], want, atol=1e-6)


def test_latest_is_the_mean_of_the_last_snapshots():
  config = opt(average="latest", latest__window=3, latest__every=2)
  trained, evaluated = walk(config, 11)
  for t in range(12):
    taken = [trained[i] for i in range(2, t + 1, 2)][-3:]
    want = np.mean(taken, axis=0) if taken else trained[t]
    np.testing.assert_allclose(evaluated[t], want, atol=1e-6)


def test_the_mean_is_kept_in_float32_and_evaluated_as_the_weights_are():
  config = opt(average="ema", ema__decay=0.9)
  specs = {"scale": toy.spec((5,), ("norm",), ())}
  params = {"scale": jnp.ones(5, jnp.bfloat16)}
  optimizer = make_optimizer(config, lambda _: 0.3, specs)
  state = optimizer.init({"scale": jnp.ones(5)})
  assert state["average"]["mean"]["scale"].dtype == jnp.float32
  assert eval_params(config, state, params)["scale"].dtype == jnp.bfloat16


@pytest.mark.parametrize("average", ["ema", "latest"])
def test_schedule_free_has_an_average_of_its_own(average):
  with pytest.raises(UserError) as caught:
    opt("schedule_free", average=average)
  assert str(caught.value) == (
    f"opt.average={average!r} with opt.name='schedule_free', which evaluates"
    " an average of its own; use opt.average='none'"
  )


@pytest.mark.parametrize(
  ("average", "option", "value"),
  [("ema", "decay", 0.0), ("latest", "window", 0), ("latest", "every", 0)],
)
def test_a_bad_option_is_refused(average, option, value):
  with pytest.raises(UserError, match=f"opt.opts.{average}.{option}={value}"):
    opt(average=average, **{f"{average}__{option}": value})


def test_an_average_that_no_update_would_enter_is_refused(small):
  average = {"opt__average": "latest", "opt__opts__latest__every": 7}
  small(steps=7, **average)
  with pytest.raises(UserError) as caught:
    small(steps=6, **average)
  assert str(caught.value) == (
    "opt.opts.latest.every=7 takes no snapshot in steps=6; lower it, or use"
    " opt.average='none'"
  )


def test_an_average_changes_no_update():
  plain = walk(opt(average="none"), 4)[0]
  for average in ("ema", "latest"):
    np.testing.assert_array_equal(walk(opt(average=average), 4)[0], plain)


_TRAIN = """
import ast, sys
from ablax.configs import base
from ablax.train.config import resolve
from ablax.train.loop import train
for workdir, changes in ast.literal_eval(sys.argv[1]).items():
  train(resolve(base.get_config(), changes), workdir)
"""


def test_a_run_evaluates_saves_and_loads_the_average(overrides, tmp_path):
  from ablax.train.checkpoint import load_model, load_state
  from ablax.train.logs import read_metrics

  run, plain = tmp_path / "run", tmp_path / "plain"
  runs = {
    str(run): overrides(steps=3, opt__average="ema", opt__lr=0.1),
    # The same updates, evaluated without the average.
    str(plain): overrides(steps=3, opt__lr=0.1),
  }
  # Fused as users' programs are: two of them then give the same bits. This
  # process compiles by other means (tests/conftest.py).
  light = "--xla_backend_optimization_level=0"
  subprocess.run(
    [sys.executable, "-c", _TRAIN, repr(runs)],
    env={**os.environ, "XLA_FLAGS": light},
    check=True,
  )
  _, state = load_state(run)
  _, params, _ = load_model(run)
  mean = state.opt_state["average"]["mean"]
  jax.tree.map(np.testing.assert_array_equal, params, mean)
  assert (params["embedding"] != state.params["embedding"]).any()
  jax.tree.map(
    np.testing.assert_array_equal, load_state(plain)[1].params, state.params
  )
  heldout = [read_metrics(w)[-1]["heldout/loss"] for w in (run, plain)]
  assert heldout[0] != heldout[1]
