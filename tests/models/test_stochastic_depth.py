"""Stochastic depth: whole branches of examples, at the rates of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models.block import Block
from ablax.models.config import NORMED_AFTER, RESIDUALS
from ablax.models.context import Context, DropoutKey, stochastic_depth
from ablax.models.param import init_params, specs

PROVES = ("feature:stochastic_depth",)

B, T, D, L = 6, 5, 24, 5


def lowbias32(x):
  """Wellons' hash, in numpy."""
  x = np.asarray(x, np.uint32)
  x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
  x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
  return x ^ (x >> np.uint32(16))


def kept(seed, layer, site, examples, rate):
  """Which examples keep the branch: the documented counter hash."""
  with np.errstate(over="ignore"):
    stream = lowbias32(np.uint32(seed) ^ lowbias32(layer * 8 + site))
    bits = lowbias32(stream + np.asarray(examples, np.uint32))
  return bits >= rate * 2.0**32


def context(layer, seed=7, rows=B):
  examples = jnp.arange(rows, dtype=jnp.int32)
  return Context(
    jnp.broadcast_to(jnp.arange(T), (rows, T)),
    dropout=DropoutKey(jnp.uint32(seed), examples),
    layer=jnp.int32(layer),
  )


def through(layer, rows, last_rate=0.8, site=5, seed=7):
  """What becomes of a branch of ones."""
  ones = jnp.ones((rows, T, 2))
  ctx = context(layer, seed, rows)
  return np.asarray(stochastic_depth(ones, last_rate, L, ctx, site))


@pytest.mark.parametrize("layer", range(L))
def test_the_rate_rises_linearly_with_depth_and_the_mean_stays(layer):
  rows = 20_000
  y = through(layer, rows)
  rate = 0.8 * layer / (L - 1)
  dropped = (y == 0).all((1, 2))
  # Five standard deviations of a binomial.
  sigma = (rate * (1 - rate) / rows) ** 0.5
  assert abs(dropped.mean() - rate) <= 5 * sigma
  np.testing.assert_allclose(y[~dropped], 1 / (1 - rate), rtol=1e-6)
  assert abs(y.mean() - 1) <= 5 * sigma / (1 - rate)


def test_the_mask_is_the_documented_hash():
  for layer, site in ((1, 5), (4, 5), (4, 6)):
    mask = through(layer, 512, site=site)[:, 0, 0] != 0
    want = kept(7, layer, site, np.arange(512), 0.8 * layer / (L - 1))
    np.testing.assert_array_equal(mask, want)
    assert 0 < mask.sum() < 512


def test_branches_layers_and_steps_drop_independently():
  first = through(4, 4000, last_rate=0.5)[:, 0, 0] != 0
  for other in ({"site": 6}, {"seed": 8}):
    second = through(4, 4000, last_rate=0.5, **other)[:, 0, 0] != 0
    # Agreement of independent fair coins: five standard deviations.
    assert abs((first == second).mean() - 0.5) < 5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_dropped_branch_is_gone_from_each_wiring(model_config, residual):
  """An example without both branches leaves the block as if f were 0."""
  rate, layer = 0.6, L - 1
  config = model_config(
    residual=residual, n_layers=L, stochastic_depth=rate, d_model=D
  )
  block = Block(config, config.layers[0])
  x = jax.random.normal(jax.random.key(0), (B, T, D))
  ctx = context(layer)
  params = init_params(specs(block, x, ctx, None), jax.random.key(1))

  def run(params, ctx):
    return np.asarray(block.apply({"params": params}, x, ctx, None)[0])

  def with_factors(**factors):
    """The parameters with each branch's last linear map multiplied."""
    changed = dict(params)
    for branch, factor in factors.items():
      last = {"mixer": "o", "ffn": "down"}[branch]
      inside = branch, last
      # Where a norm stands last in the branch, its scale is that map.
      if residual == "sandwich":
        inside = (f"{branch}_out_norm",)
      elif residual == "after":
        inside = (f"{branch}_norm",)
      leaf = params[inside[0]]
      scaled = jax.tree.map(
        lambda a, f=factor: a * f, leaf[last] if inside[1:] else leaf
      )
      changed[inside[0]] = {**leaf, last: scaled} if inside[1:] else scaled
    return changed

  mixer, ffn = (kept(7, layer, s, np.arange(B), rate) for s in (5, 6))
  assert len(set(zip(mixer, ffn, strict=True))) > 2, "too few cases"
  got, plain = run(params, ctx), Context(ctx.positions_BT)
  for i in range(B):
    factors = with_factors(
      mixer=float(mixer[i]) / (1 - rate), ffn=float(ffn[i]) / (1 - rate)
    )
    # fp32 through two sublayers; outputs are of size 5.
    np.testing.assert_allclose(
      got[i], run(factors, plain)[i], rtol=0, atol=2e-5
    )
  if residual not in NORMED_AFTER:
    none = run(with_factors(mixer=0.0, ffn=0.0), plain)
    np.testing.assert_array_equal(none, np.asarray(x))


def test_evaluation_drops_nothing(model_config):
  ctx = Context(jnp.broadcast_to(jnp.arange(T), (B, T)), layer=4)
  x = jnp.ones((B, T, D))
  assert stochastic_depth(x, 0.9, L, ctx, 5) is x


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"stochastic_depth": 1.0}, r"stochastic_depth=1.0 must be in \[0, 1\)"),
    ({"stochastic_depth": -0.1}, r"stochastic_depth=-0.1 must be in"),
    (
      {"stochastic_depth": 0.1, "n_layers": 1},
      r"drops nothing with model.n_layers=1.*set it to 0",
    ),
  ],
)
def test_a_rate_without_meaning_is_refused(model_config, change, message):
  with pytest.raises(UserError, match=message):
    model_config(**change)
