"""Who sees whom in each softmax mixer, pair by pair in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.context import Context
from ablax.models.mixers import MIXERS
from ablax.models.once import Alone
from ablax.models.param import init_params, specs

PROVES = (
  "mixer:attention",
  "mixer:sliding_window",
  "mixer:streaming",
  "mixer:strided",
  "mixer:fixed",
  "mixer:longformer",
  "mixer:bigbird",
  "mixer:mla",
  "feature:log_n",
  "feature:clip_qkv",
)
AGAINST = "float64 pairs"

B, T, D, N, K, H = 2, 23, 24, 4, 2, 6


def drawn(config, mixer, ctx, x):
  module = Alone(config, mixer)
  return init_params(specs(module, x, ctx), jax.random.key(0))


@pytest.fixture
def outputs(model_config):
  """A function to (ours, params, x) of a mixer's options."""

  def make(mixer, position="none", **opts):
    opts = {f"{mixer}.{k}": v for k, v in opts.items()}
    config = model_config(pattern=(mixer,), position=position, opts=opts)
    x = jax.random.normal(jax.random.key(1), (B, T, D))
    ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
    params = drawn(config, mixer, ctx, x)
    run = jax.jit(
      lambda p, x: Alone(config, mixer).apply({"params": p}, x, ctx)
    )
    return run(params, x)[0], params["mixer"], x

  return make


def by_loops(params, x, seen, score=lambda q, k, t, s, n: q @ k / H**0.5):
  """Attention with `seen(t, s, n)` and `score(q, k, t, s, n)`, in float64."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  x = np.asarray(x, np.float64)
  q, k, v = (np.einsum("BTD,DNH->BTNH", x, p[name]["kernel"]) for name in "qkv")
  out = np.zeros((B, T, N, H))
  for b, t, n in np.ndindex(B, T, N):
    keys = [s for s in range(t + 1) if seen(t, s, n)]
    head = n // (N // K)
    scores = [score(q[b, t, n], k[b, s, head], t, s, n) for s in keys]
    w = np.exp(np.array(scores) - max(scores))
    out[b, t, n] = w / w.sum() @ v[b, keys, head]
  return np.einsum("BTNH,NHD->BTD", out, p["o"]["kernel"])


def alibi(q, k, t, s, n, away=None):
  away = t - s if away is None else away
  return q @ k / H**0.5 - 2.0 ** (-8 * (n + 1) / N) * away


MASKS = {
  "sliding_window": ({"window": 5}, lambda t, s, n: t - s < 5),
  "segment_recurrence": (
    {"segment": 4, "memory": 6},
    lambda t, s, n: s >= t // 4 * 4 - 6,
  ),
  "strided": ({"stride": 4}, lambda t, s, n: t - s < 4 or (t - s) % 4 == 0),
  "fixed": (
    {"stride": 5, "summary": 2},
    lambda t, s, n: t // 5 == s // 5 or s % 5 >= 3,
  ),
  "longformer": (
    {"window": 4, "n_global": 2},
    lambda t, s, n: t - s < 4 or s < 2 or t < 2,
  ),
}


def close(got, want):
  # fp32: sums of some 20 terms, of numbers of size 1, in another order.
  np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)


@pytest.mark.parametrize("mixer", MASKS)
def test_it_sees_what_its_paper_says(outputs, mixer):
  opts, seen = MASKS[mixer]
  got, params, x = outputs(mixer, **opts)
  close(got, by_loops(params, x, seen))


def test_strided_heads_may_take_turns(outputs):
  got, params, x = outputs("strided", stride=4, split=True)

  def seen(t, s, n):
    return (t - s) % 4 == 0 if n % 2 else t - s <= 4

  close(got, by_loops(params, x, seen))


def test_a_dilated_window_is_that_of_half_the_heads(outputs):
  got, params, x = outputs("longformer", window=3, n_global=0, dilation=2)

  def seen(t, s, n):
    return (t - s) % 2 == 0 and t - s < 6 if n >= N // 2 else t - s < 3

  close(got, by_loops(params, x, seen))


def test_bigbird_draws_its_blocks_among_those_before(model_config):
  """The same for all queries of a block, other ones by head and layer."""
  config = model_config(
    pattern=("bigbird",),
    opts={"bigbird.block": 3, "bigbird.window": 1, "bigbird.n_global": 1},
  )
  length = 60
  ctx = Context(jnp.arange(length)[None])
  mixer = MIXERS["bigbird"](config)

  def seen(layer):
    from ablax.models.mixers.cache import only_chunk

    here = ctx.at_layer(layer)
    return np.asarray(mixer.mask(here, only_chunk({}, here))())[0]

  first = seen(0)
  blocks = first[:, ::3, ::3]
  assert (np.repeat(np.repeat(blocks, 3, 1), 3, 2) == first).all()
  drawn = blocks.copy()
  drawn[:, :, 0] = False
  drawn[:, np.arange(20), np.arange(20)] = False
  drawn[:, 0] = False  # the global block sees all
  assert not np.triu(drawn, 1).any() and (drawn.sum(-1) <= 1).all()
  assert drawn[:, 5:].any(-1).mean() > 0.7  # some draws are the global block
  assert (drawn[0] != drawn[1]).any() and (seen(1) != first).any()


def test_streaming_counts_positions_within_its_cache(outputs):
  """First tokens are no further away than the cache is long."""
  got, params, x = outputs("streaming", "alibi", window=5, first=2)

  def score(q, k, t, s, n):
    away = t - s if t - s < 5 else min(t, 2 + 5 - 1) - s
    return alibi(q, k, t, s, n, away)

  def seen(t, s, n):
    return t - s < 5 or s < 2

  close(got, by_loops(params, x, seen, score))


@pytest.mark.parametrize(
  "length", [3_000, pytest.param(100_000, marks=pytest.mark.long)]
)
def test_streaming_runs_on_in_constant_memory(model_config, length):
  """After so many tokens as after the few that its cache holds."""
  window, first = 6, 2
  config = model_config(
    pattern=("streaming",),
    opts={"streaming.window": window, "streaming.first": first},
  )
  entry = MIXERS["streaming"]
  x = jax.random.normal(jax.random.key(2), (1, length, D))
  ctx = Context(jnp.zeros((1, 1), jnp.int32))
  params = drawn(config, "streaming", ctx, x[:, :1])

  def step(state, token):
    at, x_1D = token
    here = Context(at[None, None])
    y, state = Alone(config, "streaming").apply(
      {"params": params}, x_1D[None], here, state
    )
    return state, y[0, 0]

  state = entry.init_state(config, 1, 10 * length)
  assert state["last"]["k"].shape[1] + state["first"]["k"].shape[1] == 8
  tokens = jnp.arange(length), jnp.moveaxis(x, 1, 0)
  _, y = jax.jit(lambda s, t: jax.lax.scan(step, s, t))(state, tokens)
  kept = jnp.concatenate([x[:, :first], x[:, -window:]], axis=1)
  short = Context(jnp.arange(first + window)[None])
  want, _ = Alone(config, "streaming").apply({"params": params}, kept, short)
  # fp32: angles are off by some 6e-8 of the position, in queries and keys; an
  # output of size 1 by a few times that.
  np.testing.assert_allclose(y[-1], want[0, -1], rtol=0, atol=3.5e-7 * length)


def test_log_n_sharpens_long_rows(outputs):
  got, params, x = outputs("attention", log_n=8)

  def score(q, k, t, s, n):
    return q @ k / H**0.5 * max(1, np.log(t + 1) / np.log(8))

  close(got, by_loops(params, x, lambda t, s, n: True, score))


def test_clip_qkv_cuts_what_is_projected(outputs):
  got, params, x = outputs("attention", clip_qkv=0.5)
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  x = np.asarray(x, np.float64)
  q, k, v = (
    np.einsum("BTD,DNH->BTNH", x, p[name]["kernel"]).clip(-0.5, 0.5)
    for name in "qkv"
  )
  k, v = (np.repeat(a, N // K, axis=2) for a in (k, v))
  s = np.einsum("BTNH,BSNH->BNTS", q, k) / H**0.5
  s = np.where(np.tril(np.ones((T, T))), np.exp(s), 0)
  out = np.einsum("BNTS,BSNH->BTNH", s / s.sum(-1, keepdims=True), v)
  close(got, np.einsum("BTNH,NHD->BTD", out, p["o"]["kernel"]))


def test_the_absorbed_form_of_mla_is_the_other(model_config):
  """A chunk as long as a head is wide takes keys and values made again."""
  config = model_config(
    pattern=("mla",), opts={"mla.kv_rank": 10, "mla.rope_dim": 4}
  )
  x = jax.random.normal(jax.random.key(1), (B, T, D))
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
  params = drawn(config, "mla", ctx, x)

  @jax.jit
  def step(x, ctx, state):
    return Alone(config, "mla").apply({"params": params}, x, ctx, state)

  def run(cut):
    state = MIXERS["mla"].init_state(config, B, T)
    outputs = []
    for start in range(0, T, cut):
      here = ctx.chunk(start, min(start + cut, T))
      y, state = step(x[:, start : start + cut], here, state)
      outputs.append(y)
    return jnp.concatenate(outputs, axis=1)

  np.testing.assert_allclose(run(3), run(H + 2), rtol=0, atol=5e-6)  # fp32


OPTIONS = {
  "scale": 0.9,
  "soft_cap": 0.5,
  "sinks": True,
  "qk_norm": "rms_norm",
  "log_n": 4,
  "clip_qkv": 0.3,
  "gate": "head",
}


@pytest.mark.parametrize(
  "mixer",
  [
    m
    for m in MIXERS.own
    if MIXERS[m].positional and m not in ("parallel_heads", "shared_block")
  ],
)
def test_no_option_is_without_effect(outputs, mixer):
  """Of those that all softmax mixers have, or share with attention."""
  plain, _, _ = outputs(mixer)
  options = {f.name for f in dataclasses.fields(MIXERS.options(mixer))}
  assert {"scale", "soft_cap", "sinks"} <= options
  for option in OPTIONS.keys() & options:
    if (mixer, option) == ("streaming", "sinks"):  # refused, with the reason
      continue
    got, _, _ = outputs(mixer, **{option: OPTIONS[option]})
    assert np.abs(got - plain).max() > 1e-3, option


@pytest.mark.parametrize(
  ("overrides", "said"),
  [
    (
      {"pattern": ("sliding_window",), "opts": {"sliding_window.window": 0}},
      r"opts.sliding_window.window=0 must be at least 1",
    ),
    (
      {"pattern": ("streaming",), "position": "learned"},
      r"position='learned' numbers tokens from the beginning",
    ),
    (
      {"pattern": ("mla",), "position": "deberta"},
      r"position='deberta' reads whole queries and keys",
    ),
    (
      {"pattern": ("differential",), "n_kv_heads": 1},
      r"model.n_kv_heads=1 is odd, and model.mixer='differential'",
    ),
    (
      {"position": "tupe", "opts": {"attention.soft_cap": 5.0}},
      r"soft_cap=5.0 caps products .*model.position='tupe' adds",
    ),
    (
      {"pattern": ("streaming",), "position": "dynamic_ntk"},
      r"position='dynamic_ntk' follows the length of the text",
    ),
    (
      {"position": "alibi", "opts": {"attention.position": "t5"}},
      r"model.position='alibi' is used by no layer.*set it to 't5'",
    ),
    (
      {"opts": {"attention.position": "ropee"}},
      r"opts.attention.position='ropee' is not .* did you mean 'rope'",
    ),
    ({"pattern": ("mla",), "use_bias": True}, r"'mla' has no biases"),
    (
      {"pattern": ("mla",), "opts": {"mla.rope_dim": 5}},
      r"opts.mla.rope_dim=5 must be even and positive",
    ),
    (
      {"pattern": ("streaming",), "opts": {"streaming.sinks": True}},
      r"opts.streaming.sinks=True is a learned score",
    ),
    (
      {"residual": "deep_norm", "norm": "none"},
      r"residual='deep_norm' multiplies .* choose another norm",
    ),
    (
      {"position": "t5", "mup_base": 24, "mup_grows": "head_dim"},
      r"muP has no rule for what model.position='t5' adds",
    ),
    (
      {"pattern": ("mamba",), "mup_base": 24, "mup_grows": "head_dim"},
      r"muP has no rule that is known to hold for model.mixer='mamba'",
    ),
    (
      {"position": "yarn", "opts": {"yarn.rope_theta": 1.0}},
      r"opts.yarn.rope_theta=1.0 must be above 1",
    ),
    ({"opts": {"attention.log_n": 1}}, r"opts.attention.log_n=1 must be"),
    ({"opts": {"attention.scale": -1.0}}, r"opts.attention.scale=-1.0 must be"),
    (
      {"opts": {"attention.qk_norm": "rms"}},
      r"opts.attention.qk_norm='rms' is not one of",
    ),
    (
      {"opts": {"rope.pairing": "half"}},
      r"opts.rope.pairing='half' is not one of halves, interleaved",
    ),
    ({"opts": {"rope.fraction": 0.0}}, r"rope.fraction=0.0 must be in"),
    (
      {"pattern": ("fixed",), "opts": {"fixed.summary": 64}},
      r"opts.fixed.summary=64 must be from 1 to below stride=64",
    ),
    (
      {"position": "yarn", "opts": {"yarn.factor": 0.5}},
      r"opts.yarn.factor=0.5 must be at least 1",
    ),
    (
      {"position": "t5", "opts": {"t5.buckets": 6}},
      r"opts.t5.buckets=6 must be a multiple of 4",
    ),
  ],
)
def test_what_makes_no_sense_is_refused(model_config, overrides, said):
  with pytest.raises(UserError, match=said):
    model_config(**overrides)


def test_an_odd_head_is_refused_by_a_rotation(model_config):
  with pytest.raises(UserError, match=r"turns pairs, and 5 of model.head_dim"):
    model_config(head_dim=5)


@pytest.mark.parametrize(
  ("position", "agrees"),
  [("consistent_ntk", True), ("longrope", True), ("dynamic_ntk", False)],
)
def test_the_last_token_of_a_long_text_is_that_of_one_pass(
  model_config, position, agrees
):
  """Beyond the trained length: keys have the base of their query, or not."""
  opts = {f"{position}.original_len": 8, f"{position}.factor": 4.0}
  config = model_config(position=position, opts=opts)
  x = jax.random.normal(jax.random.key(1), (B, T, D))
  at = jnp.broadcast_to(jnp.arange(T), (B, T))
  ctx = Context(at, jnp.ones_like(at))
  params = drawn(config, "attention", ctx, x)
  run = jax.jit(
    lambda x, ctx, state: Alone(config, "attention").apply(
      {"params": params}, x, ctx, state
    )
  )
  state, y = MIXERS["attention"].init_state(config, B, T), x
  for t in range(T):
    y, state = run(x[:, t : t + 1], ctx.chunk(t, t + 1), state)
  apart = float(jnp.abs(y[:, 0] - run(x, ctx, None)[0][:, -1]).max())
  # fp32: sums of some 20 terms of size 1 in another order.
  assert apart < 5e-6 if agrees else apart > 1e-3


@pytest.mark.parametrize(
  "position", ["dynamic_ntk", "consistent_ntk", "longrope"]
)
def test_the_length_is_that_of_a_document(model_config, position):
  """A short one beside a long one in its row is as it is alone."""
  opts = {f"{position}.original_len": 8, f"{position}.factor": 4.0}
  config = model_config(position=position, opts=opts)
  x = jax.random.normal(jax.random.key(1), (B, T, D))
  slots = jnp.broadcast_to(jnp.arange(T), (B, T))
  late = (slots >= 6).astype(jnp.int32)
  ctx = Context(slots - 6 * late, 1 + late)
  params = drawn(config, "attention", ctx, x)

  @jax.jit
  def run(x, ctx):
    return Alone(config, "attention").apply({"params": params}, x, ctx)[0]

  for part in (slice(0, 6), slice(6, T)):
    alone = run(x[:, part], ctx.chunk(part.start, part.stop))
    close(run(x, ctx)[:, part], alone)


@pytest.mark.parametrize("position", ["dynamic_ntk", "longrope"])
def test_training_beyond_the_trained_length_is_refused(position):
  from ablax.configs import base
  from ablax.train.config import resolve

  key = f"model.opts.{position}.original_len"
  with pytest.raises(UserError, match=rf"data.seq_len=256 .* {key}=128, from"):
    resolve(base.get_config(), {"model.position": position})
  resolve(base.get_config(), {"model.position": position, key: 256})
