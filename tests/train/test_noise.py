"""The gradient noise scale, on gradients of known mean and covariance."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.train.logs import read_metrics
from ablax.train.loop import train
from ablax.train.noise import NoiseScale, estimates
from ablax.train.objectives import Loss
from ablax.train.step import loss_and_grads

PROVES = ("feature:noise_scale",)

P, B, T, N = 5, 8, 6, 4  # numbers in a gradient, rows, tokens, microbatches
MEAN = np.array([1.0, -0.5, 0.2, 0.0, 0.3])
SIGMA = np.diag([2.0, 1.0, 0.5, 3.0, 0.1]) + 0.05


class Linear:
  """Each token's gradient is a draw from N(MEAN, SIGMA)."""

  def __call__(self, apply, params, batch, key):
    losses_BT = batch["x"] @ params["w"]
    weights_BT = batch["weights"]
    return Loss((weights_BT * losses_BT).sum(), weights_BT.sum(), {})


def estimate(x, weights, loss_scale=None):
  """Both estimates, through the step's own gradients."""
  loss, grads = loss_and_grads(
    Linear(),
    lambda *_: None,
    {"w": jnp.zeros(P)},
    {"x": x, "weights": weights},
    jax.random.key(0),
    N,
    noise=True,
    loss_scale=loss_scale,
  )
  mean_square = loss.metrics["noise/squares"] / loss.weight
  square = (grads["w"] ** 2).sum()
  n = loss.metrics["noise/n"]
  return estimates(mean_square, n, square, loss.weight)


def weights_of(lengths):
  weights = np.zeros((B, T), np.float32)
  for row, length in enumerate(lengths):
    weights[row, :length] = 1
  return jnp.asarray(weights)


def draws(n):
  root = np.linalg.cholesky(SIGMA)
  noise = jax.random.normal(jax.random.key(3), (n, B, T, P))
  return jnp.asarray(MEAN, jnp.float32) + noise @ jnp.asarray(
    root.T, jnp.float32
  )


@pytest.mark.parametrize(
  "lengths",
  [
    [6, 6, 6, 6, 6, 6, 6, 6],
    [1, 6, 2, 5, 1, 3, 6, 1],
    [6, 6, 0, 6, 1, 6, 0, 6],  # the third microbatch is empty
  ],
  ids=["equal", "uneven", "one is empty"],
)
def test_the_estimates_are_unbiased_whatever_the_token_counts(lengths):
  weights = weights_of(lengths)
  x = draws(20_000)
  run = jax.jit(jax.vmap(functools.partial(estimate, weights=weights)))
  seen = {k: np.asarray(v, np.float64) for k, v in run(x).items()}
  want = {"noise/square": MEAN @ MEAN, "noise/trace": np.trace(SIGMA)}
  for name, exact in want.items():
    error = seen[name].std() / len(x) ** 0.5
    # Four standard errors of 20,000 independent draws; each is below 2 %.
    assert abs(seen[name].mean() - exact) < 4 * error
    assert error < 0.02 * exact


def test_equal_microbatches_give_the_papers_estimators():
  """Equations A.2 and A.3, in float64."""
  x = draws(1)[0]
  got = estimate(x, jnp.ones((B, T)))
  rows = np.asarray(x, np.float64)
  small = [rows[i::N].mean((0, 1)) for i in range(N)]
  small_square = np.mean([g @ g for g in small])
  big = rows.mean((0, 1))
  b_small, b_big = B * T / N, B * T
  square = (b_big * big @ big - b_small * small_square) / (b_big - b_small)
  trace = (small_square - big @ big) / (1 / b_small - 1 / b_big)
  # fp32 differences of numbers of size 2.
  assert float(got["noise/square"]) == pytest.approx(square, rel=1e-5)
  assert float(got["noise/trace"]) == pytest.approx(trace, rel=1e-5)


def test_a_loss_scale_does_not_change_the_estimates():
  x = draws(1)[0]
  plain = estimate(x, jnp.ones((B, T)))
  scaled = estimate(x, jnp.ones((B, T)), jnp.float32(2.0**16))
  assert jax.tree.map(float, plain) == jax.tree.map(float, scaled)


def test_one_microbatch_of_tokens_estimates_nothing():
  got = estimate(draws(1)[0], weights_of([6, 0, 0, 0, 6, 0, 0, 0]))
  assert all(np.isnan(v) for v in got.values())


def test_the_ratio_is_that_of_the_means_and_goes_on_after_a_restart():
  rng = np.random.default_rng(0)
  pairs = rng.normal([2.0, 60.0], [3.0, 30.0], (50, 2))
  noise, lines = NoiseScale(), []
  for step, (square, trace) in enumerate(pairs.tolist(), 1):
    metrics = {"noise/square": square, "noise/trace": trace, "loss": 1.0}
    noise.update(metrics)
    lines.append(metrics)
    if step == 20:
      state = json.loads(json.dumps(noise.state()))
  mean = pairs.mean(0)  # a plain mean: fewer than 100 updates
  assert lines[-1]["noise_scale"] == pytest.approx(mean[1] / mean[0])
  again = NoiseScale(state)
  for square, trace in pairs[20:].tolist():
    metrics = {"noise/square": square, "noise/trace": trace}
    again.update(metrics)
  assert metrics["noise_scale"] == lines[-1]["noise_scale"]
  before = dict(metrics)
  skipped = {"noise/square": np.nan, "noise/trace": np.inf}
  again.update(skipped)
  assert skipped == before


def test_a_run_logs_it_and_trains_to_the_same_numbers(small, tmp_path):
  logged = small(opt__accum_steps=2, log__noise_scale=True, steps=3)
  plain = small(opt__accum_steps=2, steps=3)
  assert logged.hash == plain.hash
  train(logged, tmp_path / "logged")
  train(plain, tmp_path / "plain")
  a, b = (read_metrics(tmp_path / name) for name in ("logged", "plain"))
  keys = {"noise/square", "noise/trace", "noise_scale"}
  assert keys <= a[0].keys() and not keys & b[0].keys()
  assert "noise/squares" not in a[0] and "noise/n" not in a[0]
  for x, y in zip(a, b, strict=True):
    assert x.keys() - keys == y.keys()
    for key in {"loss", "grad_norm"} & x.keys():
      # XLA fuses the norms with the sums: the last bit may be another.
      assert x[key] == pytest.approx(y[key], rel=1e-6)


def test_a_resumed_run_has_the_same_means_to_the_bit(small, tmp_path):
  config = small(
    opt__accum_steps=2,
    log__noise_scale=True,
    log__every=2,  # the checkpoint is between two lines
    checkpoint__every=3,
    checkpoint__keep=3,
  )
  train(config, tmp_path / "alone")
  shutil.copytree(tmp_path / "alone", tmp_path / "killed")
  shutil.rmtree(tmp_path / "killed/checkpoints/6")
  train(config, tmp_path / "killed")
  keys = ("step", "noise/square", "noise/trace", "noise_scale")
  one, other = (
    [[x.get(key) for key in keys] for x in read_metrics(tmp_path / name)]
    for name in ("alone", "killed")
  )
  assert one == other and one[-1][0] == 6


def test_without_microbatches_it_is_refused(small):
  with pytest.raises(UserError, match=r"log.noise_scale.*opt.accum_steps=1"):
    small(log__noise_scale=True)
