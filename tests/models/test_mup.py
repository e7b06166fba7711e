"""muP's rules: what is compared with the proxy, and its factors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.errors import UserError
from ablax.models import lm, mup
from ablax.models.param import ParamSpec, normal, path_of, zeros

PROVES = ("feature:mup",)

HEADS = {"n_heads": 4, "n_kv_heads": 2}
WIDE = {"d_model": 96, "n_heads": 8, "n_kv_heads": 4, "ff_dim": 160}


@functools.partial(jax.jit, static_argnums=0)
def logits(config, params, tokens):
  return lm.apply(config, params, tokens).logits()


def stds(config):
  """Path -> standard deviation of each drawn matrix."""
  params = lm.init(config, jax.random.key(0))
  leaves = jax.tree_util.tree_flatten_with_path(params)[0]
  return {path_of(p): float(np.std(np.asarray(a))) for p, a in leaves}


def test_the_proxy_has_the_sizes_of_the_config_resolved_there(model_config):
  c = model_config(**WIDE, head_dim=6, mup_base=24, mup_grows="n_heads")
  assert mup.base_config(c) == model_config(
    n_heads=2, n_kv_heads=1, head_dim=6, mup_grows="n_heads"
  )
  c = model_config(**WIDE | {"head_dim": 24}, mup_base=24, mup_grows="head_dim")
  assert mup.base_config(c) == model_config(
    n_heads=8, n_kv_heads=4, head_dim=6, mup_grows="head_dim"
  )
  # The default ff_dim is the proxy's default, which is not in proportion.
  c = model_config(d_model=256, ff_dim=0, mup_base=64, mup_grows="head_dim")
  assert (c.ff_dim, mup.base_config(c).ff_dim) == (688, 176)


def test_one_key_head_for_many_queries_stays_one(model_config):
  wide = WIDE | {"n_kv_heads": 1}
  c = model_config(**wide, mup_base=24, mup_grows="n_heads")
  assert mup.base_config(c).n_kv_heads == 1
  one = model_config(n_heads=1, n_kv_heads=1, mup_grows="n_heads")
  assert mup.at_width(one, 96).n_kv_heads == 4  # multi-head, with one head


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"mup_base": 24}, "model.mup_base=24 must know how the heads follow"),
    ({"mup_base": -1, "mup_grows": "n_heads"}, "model.mup_base=-1 must be"),
    ({"mup_grows": "heads"}, "model.mup_grows='heads' is not one of"),
    (
      {"mup_base": 6, "mup_grows": "n_heads", "n_kv_heads": 2},
      "model.n_kv_heads=2 of model.d_model=24 would be 0.5 at the width 6",
    ),
    (
      {"mup_base": 12, "mup_grows": "head_dim", "head_dim": 2, "ff_dim": 41},
      "model.ff_dim=41 of model.d_model=24 would be 20.5",
    ),
  ],
)
def test_an_impossible_proxy_is_refused(model_config, changes, says):
  with pytest.raises(UserError, match=says.replace("(", r"\(")):
    model_config(**changes)


def test_what_the_proxy_cannot_build_names_the_width(model_config):
  with pytest.raises(UserError, match=r"mup_base=12: .*turns pairs"):
    model_config(mup_base=12, mup_grows="head_dim")  # a head dim of 3


@pytest.mark.parametrize(
  ("grows", "tied"), [("n_heads", True), ("head_dim", False)]
)
def test_at_the_base_width_muP_is_the_standard_one_to_the_bit(
  model_config, grows, tied
):
  options = {"tie_embeddings": tied, "use_bias": True, "norm": "layer_norm"}
  plain = model_config(**options)
  ours = model_config(**options, mup_base=24, mup_grows=grows)
  tokens = jnp.arange(14).reshape(2, 7)
  params = lm.init(plain, jax.random.key(1))
  again = lm.init(ours, jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, params, again)
  np.testing.assert_array_equal(
    logits(plain, params, tokens), logits(ours, params, tokens)
  )
  specs = jax.tree.leaves(lm.param_specs(ours))
  assert {mup.growth(s) for s in specs} == {(1.0, 1.0)}


def test_initial_sizes_are_the_proxys_times_table_3(model_config):
  options = {"tie_embeddings": False, "head_dim": 6, "mup_grows": "n_heads"}
  base = stds(model_config(n_heads=2, n_kv_heads=1, **options))
  wide = stds(model_config(**WIDE, mup_base=24, **options))
  for path, std in wide.items():
    if path.endswith("scale"):
      assert std == 0
    elif "embedding" in path:
      # Tables: the size stays, and what is read out is divided.
      assert std == pytest.approx(base[path], rel=0.1)
    else:
      assert std == pytest.approx(base[path] / 2, rel=0.1), path


@pytest.mark.parametrize(
  ("shape", "base", "axes", "roles", "want"),
  [
    # (r_in, r_out, factor of the initial size)
    ((3, 8, 4), (3, 2, 1), "LDF", ("batch", "in", "out"), (4, 4, 1 / 2)),
    ((8, 5), (2, 5), "DR", ("in", "out"), (4, 1, 1 / 4)),
    ((5, 8), (5, 2), "RD", ("in", "out"), (1, 4, 1)),
    ((5, 7), (5, 7), "RS", ("in", "out"), (1, 1, 1)),
    # Heads of a fixed size: all of them together are the fan-in.
    ((8, 6, 9), (2, 6, 3), "NHD", ("in", "in", "out"), (4, 3, None)),
    ((8, 3, 8), (8, 3, 2), "END", ("batch", "in", "out"), (1, 4, 1)),
    ((8,), (2,), "D", (), (1, 4, 1)),
  ],
)
def test_what_grows_is_found_by_comparing_shapes(
  shape, base, axes, roles, want
):
  spec = ParamSpec(shape, "float32", tuple(axes), zeros, roles, base)
  n_in, n_out, factor = want
  assert mup.growth(spec) == (n_in, n_out)
  factor = math.sqrt(min(1, n_out / n_in) / n_in) if factor is None else factor
  assert mup.init_factor(spec) == pytest.approx(factor)


def test_the_table_is_one_on_either_side_of_the_model():
  for roles in (("in", "out"), ("out", "in")):
    spec = ParamSpec(
      (50, 8), "float32", ("vocab", "embed"), normal(1.0), roles, (50, 2)
    )
    assert mup.growth(spec) == (1, 4) and mup.init_factor(spec) == 1


def test_scores_are_over_the_head_dim_as_the_proxys_are_at_its(model_config):
  """softmax(q k sqrt(H_0) / H): a half of the scale for 4 H_0."""
  options = {"d_model": 96, "ff_dim": 160, "n_layers": 1, **HEADS}
  c = model_config(**options, head_dim=24, mup_base=24, mup_grows="head_dim")
  assert mup.query_scale(c) == pytest.approx(1 / 2)  # sqrt(6 / 24)
  plain = model_config(**options, head_dim=24)
  params = lm.init(plain, jax.random.key(0))
  q = params["groups"]["0"]["mixer"]["q"]
  q["kernel"] *= 5  # scores that matter
  tokens = jnp.arange(10)[None]
  got = logits(c, params, tokens)
  q["kernel"] /= 2
  want = logits(plain, params, tokens) / 4  # and read out as 1/4
  np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-6)


def test_heads_of_a_fixed_size_keep_their_scale(model_config):
  c = model_config(**WIDE, head_dim=6, mup_base=24, mup_grows="n_heads")
  assert mup.query_scale(c) == 1 and mup.readout_scale(c) == 1 / 4


def test_kept_activations_are_those_of_every_layer(model_config):
  c = model_config()
  params = lm.init(c, jax.random.key(0))
  tokens = jnp.arange(14).reshape(2, 7)
  output, kept = jax.jit(functools.partial(lm.activations, c))(params, tokens)
  np.testing.assert_array_equal(output.logits(), logits(c, params, tokens))
  block = kept["groups"]["0"]
  assert block["stream"].shape == (2, 2, 7, 24)
  assert block["mixer"]["own_score"].shape == (2, 2, 7, 4)
