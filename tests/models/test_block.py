"""Norms against float64 numpy; where the residual wirings put them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.models.block import Block
from ablax.models.config import RESIDUALS, Layer
from ablax.models.context import Context
from ablax.models.ffn import FFNS
from ablax.models.lm import param_specs
from ablax.models.mixers import MIXERS
from ablax.models.norms import NORMS
from ablax.models.param import init_params, specs

PROVES = (
  "ffn:none",
  "norm:rms_norm",
  "norm:layer_norm",
  "norm:dynamic_tanh",
  "norm:none",
  "feature:deep_norm",
  "feature:pre_norm",
  "feature:post_norm",
  "feature:sandwich_norm",
  "feature:parallel_block",
  "feature:parallel_norms",
  "feature:after_norm",
)
AGAINST = "float64 formula"

B, T, D = 2, 5, 24
X = np.asarray(jax.random.normal(jax.random.key(0), (B, T, D)))


def exact_norm(name, x, params, eps):
  """As the papers have it; the population variance over the last axis."""
  x = x.astype(np.float64)
  if name == "none":
    return x
  scale = np.asarray(params["scale"], np.float64)
  if name == "layer_norm":
    x = x - x.mean(-1, keepdims=True)
    bias = np.asarray(params["bias"], np.float64)
  elif name == "dynamic_tanh":
    alpha = np.asarray(params["alpha"], np.float64)
    return np.tanh(alpha * x) * scale + np.asarray(params["bias"], np.float64)
  else:
    bias = 0.0
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale + bias


def drawn(module, *args):
  """Parameters of a module that are far from their neutral start."""
  params = init_params(specs(module, *args), jax.random.key(1))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  noise = [
    0.3 * jax.random.normal(key, a.shape)
    for key, a in zip(keys, leaves, strict=True)
  ]
  return jax.tree.map(jnp.add, params, jax.tree.unflatten(tree, noise))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_its_formula(model_config, name, size):
  module = NORMS[name](model_config(norm_eps=1e-5))
  x = np.float32(size) * (X + 0.5)
  params = drawn(module, jnp.asarray(x))
  got = module.apply({"params": params}, jnp.asarray(x))
  # fp32 sums of 24 numbers; the largest output is about 4.
  np.testing.assert_allclose(
    got, exact_norm(name, x, params, 1e-5), rtol=0, atol=5e-6
  )


def test_deep_norm_starts_smaller(model_config):
  """By (8L)^(-1/4) where a branch is linear, and not where a softmax is."""

  def std(residual, *path):
    config = model_config(residual=residual, n_layers=8, d_model=64)
    found = param_specs(config)["groups"]["0"]
    for name in path:
      found = found[name]
    return float(init_params(found, jax.random.key(0))["kernel"].std())

  beta = (8 * 8) ** -0.25
  for path, factor in (
    (("mixer", "q"), 1.0),
    (("mixer", "k"), 1.0),
    (("mixer", "v"), beta),
    (("mixer", "o"), beta * (2 * 8) ** 0.5),
    (("ffn", "up"), beta),
    (("ffn", "gate"), beta),
    (("ffn", "down"), beta * (2 * 8) ** 0.5),
  ):
    ratio = std("deep_norm", *path) / std("pre", *path)
    assert ratio == pytest.approx(factor, rel=1e-5), path


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_block_is_its_equation(model_config, residual):
  config = model_config(residual=residual, norm="layer_norm")
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
  block = Block(config, Layer("attention", config.ffn))
  x = jnp.asarray(X)
  params = drawn(block, x, ctx, None)
  got, *_ = block.apply({"params": params}, x, ctx, None)

  def norm(name, a):
    a = np.asarray(a)
    return exact_norm("layer_norm", a, params[name], config.norm_eps)

  def mixer(a):
    module = MIXERS["attention"](config)
    inputs = jnp.asarray(a, jnp.float32)
    return module.apply({"params": params["mixer"]}, inputs, ctx, None)[0]

  def ffn(a):
    module = FFNS[config.ffn](config)
    inputs = jnp.asarray(a, jnp.float32)
    return module.apply({"params": params["ffn"]}, inputs, ctx)

  x = X.astype(np.float64)
  if residual == "pre":
    h = x + mixer(norm("mixer_norm", x))
    want = h + ffn(norm("ffn_norm", h))
  elif residual in ("post", "deep_norm"):
    alpha = (2 * config.n_layers) ** 0.25 if residual == "deep_norm" else 1
    h = norm("mixer_norm", alpha * x + mixer(x))
    want = norm("ffn_norm", alpha * h + ffn(h))
  elif residual == "after":
    h = x + norm("mixer_norm", mixer(x))
    want = h + norm("ffn_norm", ffn(h))
  elif residual == "sandwich":
    h = x + norm("mixer_out_norm", mixer(norm("mixer_norm", x)))
    want = h + norm("ffn_out_norm", ffn(norm("ffn_norm", h)))
  elif residual == "parallel_norms":
    want = x + mixer(norm("mixer_norm", x)) + ffn(norm("ffn_norm", x))
  else:
    h = norm("norm", x)
    want = x + mixer(h) + ffn(h)
  # fp32 through two sublayers, whose outputs are of size 10.
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


# A norm is what deep_norm can't do without.
@pytest.mark.parametrize("residual", [r for r in RESIDUALS if r != "deep_norm"])
def test_a_block_without_ffn_is_its_mixer_s_half(model_config, residual):
  """The same block whose feed-forward branch and its norms do nothing."""
  config = model_config(residual=residual, norm="none", ffn="mlp")
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)))
  x = jnp.asarray(X)
  whole = Block(config, Layer("attention", "mlp"))
  params = drawn(whole, x, ctx, None)
  params["ffn"]["down"] = jax.tree.map(jnp.zeros_like, params["ffn"]["down"])
  want, *_ = whole.apply({"params": params}, x, ctx, None)
  alone = Block(config, Layer("attention", "none"))
  assert set(drawn(alone, x, ctx, None)) == {"mixer"}
  params = {"mixer": params["mixer"]}
  got, *_ = alone.apply({"params": params}, x, ctx, None)
  np.testing.assert_array_equal(got, want)
