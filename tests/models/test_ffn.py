"""Feed-forward networks against float64 numpy; order without positions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.block import Block
from ablax.models.config import Layer
from ablax.models.context import Context
from ablax.models.ffn import ACTIVATIONS, FFNS
from ablax.models.lm import apply, init
from ablax.models.param import init_params, specs

PROVES = (
  "ffn:mlp",
  "ffn:glu",
  "ffn:low_rank",
  "position:none",
  "feature:factorized_embedding",
)
AGAINST = "float64 formula"

erf = np.vectorize(math.erf)
EXACT = {
  "silu": lambda x: x / (1 + np.exp(-x)),
  "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
  "gelu_tanh": lambda x: (
    x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
  ),
  "relu": lambda x: np.maximum(x, 0),
  "relu2": lambda x: np.maximum(x, 0) ** 2,
  "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
  "tanh": np.tanh,
  "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
  "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
  "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
  "identity": lambda x: x,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["mlp", "glu"])
def test_a_feed_forward_network_is_its_formula(model_config, name, activation):
  config = model_config(
    ffn=name, use_bias=True, opts={f"{name}.activation": activation}
  )
  ffn = FFNS[name](config)
  x = np.random.default_rng(0).normal(size=(2, 5, config.d_model))
  inputs = (jnp.asarray(x, jnp.float32), Context(jnp.zeros((2, 5), jnp.int32)))
  params = init_params(specs(ffn, *inputs), jax.random.key(0))
  # Biases start at zero: give them something to do.
  params = jax.tree.map(lambda a: a + 0.1, params)
  got = ffn.apply({"params": params}, *inputs)
  w = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

  def linear(part, a):
    return a @ w[part]["kernel"] + w[part]["bias"]

  h = EXACT[activation](linear("gate" if name == "glu" else "up", x))
  if name == "glu":
    h = h * linear("up", x)
  # fp32 has 6e-8, and sums of 40 terms; values are about 1.
  np.testing.assert_allclose(got, linear("down", h), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("receptance", [True, False])
def test_channel_mixing_is_its_formula(model_config, receptance):
  """Of whole documents in a row: the first token of each has none before."""
  config = model_config(
    ffn="channel_mix", opts={"channel_mix.receptance": receptance}
  )
  block = Block(config, Layer("attention", "channel_mix"))
  x = np.random.default_rng(0).normal(size=(1, 7, config.d_model))
  starts = np.array([1, 0, 0, 1, 1, 0, 0], bool)
  ctx = Context(
    jnp.zeros((1, 7), jnp.int32), jnp.cumsum(jnp.asarray(starts))[None]
  )
  inputs = (jnp.asarray(x, jnp.float32), ctx, None)
  params = init_params(specs(block, *inputs), jax.random.key(0))
  # The mixer adds nothing, so that the ffn sees x normed.
  params["mixer"]["o"] = jax.tree.map(jnp.zeros_like, params["mixer"]["o"])
  got, *_ = block.apply({"params": params}, *inputs)

  w = jax.tree.map(lambda a: np.asarray(a, np.float64), params["ffn"])
  h = x[0] / np.sqrt((x[0] ** 2).mean(-1, keepdims=True) + config.norm_eps)
  before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
  before[starts] = 0

  def mixed(name):
    return h + (before - h) * w[f"mix_{name}"]

  want = np.maximum(mixed("k") @ w["up"]["kernel"], 0) ** 2
  want = want @ w["down"]["kernel"]
  if receptance:
    want *= EXACT["sigmoid"](mixed("r") @ w["receptance"]["kernel"])
  # fp32: sums of some 60 terms of size 1.
  np.testing.assert_allclose(got[0], x[0] + want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("ffn", ["none", "channel_mix"])
def test_what_is_no_function_of_a_token_is_no_expert(model_config, ffn):
  with pytest.raises(UserError, match=f"expert='{ffn}' can't be an expert"):
    model_config(ffn="moe", opts={"moe.expert": ffn})


def test_a_low_rank_network_is_a_gated_one_of_products(model_config):
  """Its output is GLU's, whose matrices are the products of its own."""
  low = model_config(ffn="low_rank", opts={"low_rank.rank": 5})
  full = model_config(ffn="glu")
  x = jax.random.normal(jax.random.key(0), (2, 5, low.d_model))
  inputs = (x, Context(jnp.zeros((2, 5), jnp.int32)))
  module = FFNS["low_rank"](low)
  params = init_params(specs(module, *inputs), jax.random.key(0))
  products = {
    name: {
      "kernel": params[f"{name}_v"]["kernel"] @ params[f"{name}_u"]["kernel"]
    }
    for name in ("gate", "up", "down")
  }
  np.testing.assert_allclose(
    module.apply({"params": params}, *inputs),
    FFNS["glu"](full).apply({"params": products}, *inputs),
    rtol=0,
    atol=2e-6,  # fp32: products in another order, of outputs below 1
  )


@pytest.mark.parametrize("tied", [True, False])
def test_a_factorized_embedding_is_the_product_of_its_matrices(
  model_config, tied
):
  """Logits of a model whose table is that product, up to the scale."""
  low = model_config(embed_rank=5, tie_embeddings=tied)
  full = model_config(tie_embeddings=tied)
  params = init(low, jax.random.key(0))
  tokens = jnp.arange(3, 20)[None]
  rest = {
    k: v
    for k, v in params.items()
    if k not in ("embed_up", "embed_down", "embedding", "unembedding")
  }
  up = params["embed_up"]["kernel"]
  assert params["embedding"].shape == (53, 5) and up.shape == (5, 24)
  rest["embedding"] = params["embedding"] @ up
  if not tied:
    assert params["unembedding"].shape == (53, 5)
    down = params["embed_down"]["kernel"]
    rest["unembedding"] = params["unembedding"] @ down.T
  np.testing.assert_allclose(
    apply(low, params, tokens).logits(),
    apply(full, rest, tokens).logits(),
    rtol=0,
    atol=2e-5,  # fp32: products in another order, through two layers
  )


@pytest.mark.parametrize(
  ("position", "same"), [("none", True), ("rope", False)]
)
def test_without_positions_one_layer_sees_a_set(model_config, position, same):
  config = model_config(position=position, n_layers=1)
  params = init(config, jax.random.key(0))
  tokens = jnp.arange(3, 20)[None]
  shuffled = tokens.at[0, :-1].set(tokens[0, :-1][::-1])
  last, other = (
    apply(config, params, t).hidden_BTD[0, -1] for t in (tokens, shuffled)
  )
  # The sums over keys are taken in another order.
  assert (float(jnp.abs(last - other).max()) < 1e-5) == same
