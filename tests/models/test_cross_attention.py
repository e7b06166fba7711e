"""Attention to another stream: by a formula, and within a decoder."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.models import lm
from ablax.models.block import Block
from ablax.models.context import Context
from ablax.models.norms.rms_norm import RMSNorm
from ablax.models.once import Alone
from ablax.models.param import init_params, specs
from ablax.models.state import init_state

PROVES = ("mixer:cross_attention",)
AGAINST = "float64 formula"

B, T, D, N, K, H = 2, 11, 24, 4, 2, 6


def by_formula(p, x, source):
  """softmax(q k^T / sqrt(H)) v in float64, head by head."""
  scale = np.asarray(p["source_norm"]["scale"], np.float64)
  rms = np.sqrt((source**2).mean(-1, keepdims=True) + 1e-5)
  normed = source / rms * scale
  q, k, v = (
    np.einsum("BTD,DNH->BTNH", of, np.asarray(p[name]["kernel"], np.float64))
    for name, of in (("q", x), ("k", normed), ("v", normed))
  )
  out = np.zeros((B, T, N, H))
  for b, t, n in np.ndindex(B, T, N):
    s = k[b, : t + 1, n // (N // K)] @ q[b, t, n] / H**0.5
    w = np.exp(s - s.max())
    out[b, t, n] = w / w.sum() @ v[b, : t + 1, n // (N // K)]
  return np.einsum("BTNH,NHD->BTD", out, np.asarray(p["o"]["kernel"]))


def test_queries_are_of_the_layer_and_the_rest_of_the_source(model_config):
  config = model_config(mixer="cross_attention", position="none")
  x, source = jax.random.normal(jax.random.key(0), (2, B, T, D))
  positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  ctx = Context(positions_BT, source_BTD=3 * source)
  module = Alone(config, "cross_attention")
  params = init_params(specs(module, x, ctx), jax.random.key(1))
  got, _ = module.apply({"params": params}, x, ctx)
  x, source = (np.asarray(a, np.float64) for a in (x, 3 * source))
  want = by_formula(params["mixer"], x, source)
  # fp32: sums of some ten terms of size 1.
  np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)


@pytest.fixture
def decoder(model_config):
  """Two layers of self-attention, then four that look at what came of them."""
  config = model_config(
    n_layers=6,
    first=("attention",) * 2,
    pattern=("cross_attention", "cross_attention/mlp"),
  )
  return config, lm.init(config, jax.random.key(0))


def test_the_source_is_the_stream_before_the_pattern(decoder):
  config, params = decoder
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 53, (B, T)))

  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))

  x = params["embedding"][tokens]
  for name, layers, repeats in config.groups:
    if name == "groups":
      ctx = dataclasses.replace(ctx, source_BTD=x)
    for tile, (i, layer) in itertools.product(
      range(repeats), enumerate(layers)
    ):
      p = jax.tree.map(lambda a, tile=tile: a[tile], params[name][str(i)])
      x, *_ = Block(config, layer).apply({"params": p}, x, ctx, None)
  norm = RMSNorm(config)
  want = norm.apply({"params": params["final_norm"]}, x)
  got = lm.apply(config, params, tokens).hidden_BTD
  # fp32 through six layers, of numbers of size 1.
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_decoding_with_a_state_gives_the_logits_of_one_pass(decoder):
  config, params = decoder
  tokens = jnp.asarray(np.random.default_rng(1).integers(0, 53, (B, T)))
  want = lm.apply(config, params, tokens).logits()
  state = init_state(config, B, T)
  found, positions = [], jnp.broadcast_to(jnp.arange(T), (B, T))
  for start, end in ((0, 4), (4, 5), (5, T)):
    output = lm.apply(
      config,
      params,
      tokens[:, start:end],
      positions[:, start:end],
      state=state,
    )
    state = output.state
    found.append(output.logits())
  # fp32, sums in another order.
  np.testing.assert_allclose(jnp.concatenate(found, 1), want, rtol=0, atol=2e-5)
