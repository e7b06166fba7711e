"""Each filter against its definition, by loops in float64."""

import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.infer import filters
from ablax.infer.decoding.top import top
from ablax.infer.filters import (
  BUILT_IN,
  FILTERS,
  Chain,
  Seen,
  apply_filters,
)
from ablax.infer.filters.leading import leading
from ablax.infer.settings import Sampling

PROVES = (
  "filter:guidance_scale",
  "filter:logit_bias",
  "filter:repetition_penalty",
  "filter:frequency_penalty",
  "filter:presence_penalty",
  "filter:temperature",
  "filter:top_k",
  "filter:top_p",
  "filter:min_p",
  "filter:typical_p",
  "filter:epsilon_cutoff",
  "filter:eta_cutoff",
)
B, V = 5, 31
applied = jax.jit(apply_filters, static_argnums=0)


def some_logits(ties):
  logits_BV = np.random.default_rng(0).normal(size=(B, V)) * 2
  logits_BV = np.round(logits_BV) if ties else logits_BV
  logits_BV[:, 3] = -np.inf  # masked before
  return logits_BV.astype(np.float32)


def filtered(logits_BV, **settings):
  chain = Chain.of(Sampling(**settings), V, draws=True)
  seen = Seen(jnp.array(logits_BV))
  return np.asarray(
    applied(chain.words, chain.values, jnp.ones((1, V), bool), seen)
  )


def probabilities(logits):
  p = np.exp(logits.astype(np.float64))
  return p / p.sum()


def before(p, score, v):
  """What the tokens of a higher score than v's have together."""
  return sum(p[u] for u in range(V) if score[u] > score[v])


def entropy(p):
  return -sum(x * math.log(x) for x in p if x > 0)


def keeps_top_k(p, k):
  return [v for v in range(V) if sum(p > p[v]) < k]


def keeps_top_p(p, mass):
  return [v for v in range(V) if before(p, p, v) < mass]


def keeps_min_p(p, least):
  return [v for v in range(V) if p[v] >= least * max(p)]


def keeps_typical_p(p, mass):
  h = entropy(p)
  surprise = [-abs(-math.log(x) - h) if x else -math.inf for x in p]
  return [v for v in range(V) if before(p, surprise, v) < mass]


def keeps_epsilon_cutoff(p, cutoff):
  return [v for v in range(V) if p[v] >= cutoff or p[v] == max(p)]


def keeps_eta_cutoff(p, cutoff):
  eta = min(cutoff, math.sqrt(cutoff) * math.exp(-entropy(p)))
  return keeps_epsilon_cutoff(p, eta)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
  ("word", "values"),
  [
    ("top_k", (1, 2, 7, 30, 99)),
    ("top_p", (1e-6, 0.41, 0.63, 0.97)),
    ("min_p", (1e-4, 0.05, 0.3, 1.0)),
    ("typical_p", (1e-6, 0.2, 0.5, 0.95)),
    ("epsilon_cutoff", (1e-4, 0.01, 0.1, 0.9)),
    ("eta_cutoff", (1e-4, 0.01, 0.1, 0.9)),
  ],
)
def test_the_kept_set_is_that_of_the_definition(word, values, ties):
  for value in values:
    logits_BV = some_logits(ties)
    for logits, found in zip(
      logits_BV, filtered(logits_BV, **{word: value}), strict=True
    ):
      p = probabilities(logits)
      kept = [v for v in globals()[f"keeps_{word}"](p, value) if p[v] > 0]
      assert np.flatnonzero(np.isfinite(found)).tolist() == kept
      np.testing.assert_array_equal(found[kept], logits[kept])


def test_temperature_divides_and_zero_keeps_the_first_of_the_likeliest():
  logits_BV = some_logits(ties=False)
  # One rounding.
  np.testing.assert_allclose(
    filtered(logits_BV, temperature=0.7), logits_BV / 0.7, rtol=2e-7
  )
  tied = np.full((1, V), -1.0, np.float32)
  tied[0, [5, 9]] = 2.0
  found = filtered(tied, temperature=0.0, top_p=0.5)
  assert np.flatnonzero(np.isfinite(found)).tolist() == [5]


def test_penalties_and_bias_are_their_formulas():
  rng = np.random.default_rng(1)
  logits_BV = some_logits(ties=False)
  counts_BV = rng.integers(0, 4, (B, V)) * rng.integers(0, 2, (B, V))
  prompt_BV = rng.random((B, V)) < 0.3
  seen = Seen(
    jnp.array(logits_BV),
    prompt_BV=jnp.array(prompt_BV),
    counts_BV=jnp.array(counts_BV, jnp.int32),
  )
  bias = np.zeros(V, np.float32)
  bias[[2, 7]] = 3.5, -100
  expected = {
    "logit_bias": logits_BV + bias,
    "frequency_penalty": logits_BV - 0.3 * counts_BV,
    "presence_penalty": logits_BV - 0.3 * (counts_BV > 0),
    "repetition_penalty": np.where(
      prompt_BV | (counts_BV > 0),
      np.where(logits_BV > 0, logits_BV / 0.3, logits_BV * 0.3),
      logits_BV,
    ),
  }
  for word, expected_BV in expected.items():
    value = jnp.array(bias) if word == "logit_bias" else jnp.float32(0.3)
    found = FILTERS[word](seen.model_BV, value, seen)
    # Two roundings.
    np.testing.assert_allclose(found, expected_BV, rtol=4e-7, atol=4e-7)


def test_guidance_extrapolates_log_probabilities():
  rng = np.random.default_rng(2)
  with_BV, without_BV = rng.normal(size=(2, B, V)).astype(np.float32)
  allowed_BV = rng.random((B, V)) < 0.8
  seen = Seen(jnp.array(with_BV), jnp.array(without_BV))
  found = np.asarray(
    apply_filters(
      ("guidance_scale",),
      {"guidance_scale": jnp.float32(1.7)},
      jnp.array(allowed_BV),
      seen,
    )
  )
  for b in range(B):
    p, q = probabilities(with_BV[b]), probabilities(without_BV[b])
    # fp32 log-probabilities of size 5.
    expected = np.log(q) + 1.7 * np.log(p / q)
    np.testing.assert_allclose(
      found[b, allowed_BV[b]], expected[allowed_BV[b]], atol=3e-6
    )
    assert np.all(found[b, ~allowed_BV[b]] == -np.inf)


def test_filters_act_in_the_order_of_the_registry():
  settings = {
    "top_k": 9,
    "temperature": 0.5,
    "logit_bias": {1: 2.0},
    "top_p": 0.8,
    "min_p": 0.1,
  }
  words = Chain.of(Sampling(**settings), V, draws=True).words
  assert words == ("logit_bias", "temperature", "top_k", "top_p", "min_p")
  assert tuple(FILTERS) == BUILT_IN
  logits_BV = some_logits(ties=False)
  step = logits_BV
  for word in words:
    step = filtered(step, **{word: settings[word]})
  np.testing.assert_array_equal(filtered(logits_BV, **settings), step)


def test_a_neutral_setting_is_not_traced():
  assert Chain.of(Sampling(top_p=1.0, min_p=0.0), V, draws=True).words == ()
  greedy = Chain.of(Sampling(temperature=0, top_k=5), V, draws=True)
  assert greedy.words == ("greedy",)


def test_leading_orders_all_floats():
  score = [-np.inf, -3e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, 3e38]
  weight = jnp.ones((1, len(score)))
  for k in range(1, len(score) + 1):
    kept = leading(jnp.array([score]), weight, jnp.int32(k))[0]
    # XLA takes a denormal for zero.
    n = {1: 1, 2: 2, 3: 6, 4: 6, 5: 6, 6: 6}.get(k, k)
    assert np.asarray(kept).tolist() == [False] * (len(score) - n) + [True] * n


def test_a_plugin_adds_a_filter(monkeypatch, run):
  """`filters` names what a file of one's own has registered."""

  def only_even(logits_BV, value, seen):
    even = jnp.arange(logits_BV.shape[-1]) % 2 == 0
    return jnp.where(even, logits_BV, logits_BV - value)

  monkeypatch.setitem(FILTERS._registered, "only_even", only_even)
  (found,) = run(["abc"], filters={"only_even": 1e9}, max_tokens=9)
  assert all(token % 2 == 0 for token in found.tokens)


def test_a_file_and_a_line_of_the_registry_add_a_filter(monkeypatch, run):
  file = types.ModuleType("ablax.infer.filters.odd")
  file.odd = lambda logits_BV, value, seen: jnp.where(
    jnp.arange(logits_BV.shape[-1]) % 2, logits_BV, logits_BV - value
  )
  monkeypatch.setitem(sys.modules, file.__name__, file)
  monkeypatch.setitem(FILTERS._files, "odd", "odd:odd")
  monkeypatch.setattr(filters, "BUILT_IN", tuple(FILTERS))
  for how in ({"top_k": 9}, {"temperature": 0}, {"decoding": "beam"}):
    (found,) = run(["abc"], filters={"odd": 1e9}, max_tokens=9, **how)
    assert all(token % 2 for token in found.tokens)


def test_filters_that_are_unknown_or_settings_are_refused(run):
  with pytest.raises(UserError, match="filters='zzz' is not a registered filt"):
    run(["a"], filters={"zzz": 1})
  with pytest.raises(UserError, match=r"is a setting of its own; use top_p="):
    run(["a"], filters={"top_p": 0.5})


@pytest.mark.parametrize("k", [1, 3, 8])
def test_top_is_top_k(k):
  x_BM = jnp.round(jax.random.normal(jax.random.key(k), (4, 57)) * 3)
  for found, expected in zip(top(x_BM, k), jax.lax.top_k(x_BM, k), strict=True):
    np.testing.assert_array_equal(found, expected)
