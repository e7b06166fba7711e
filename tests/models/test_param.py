"""Initial weights: the same numbers, whatever the mesh and the depth."""

import jax
import numpy as np
import pytest

from ablax.models import param
from ablax.models.lm import init, param_specs
from ablax.models.param import path_of
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout

MESHES = {
  "data": (8, 1, 1),
  "fsdp": (1, 8, 1),
  "mixed": (2, 2, 2),
}


def shardings_of(config, mesh, rules="fsdp"):
  mesh = make_mesh(MeshConfig(*MESHES[mesh], 1, 1, 1, rules))
  layout = Layout.of(mesh, rules)

  return jax.tree_util.tree_map_with_path(
    lambda path, spec: layout.param(path_of(path), spec.shape, spec.axes),
    param_specs(config),
  )


@pytest.fixture(scope="module")
def config(model_config):
  return model_config(n_layers=3, vocab_size=54, tie_embeddings=False)


@pytest.fixture(scope="module")
def one_device(config):
  return init(config, jax.random.key(4))


@pytest.mark.parametrize("rules", ["fsdp", "replicated"])
@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_gives_the_same_bits(config, one_device, mesh, rules):
  shardings = shardings_of(config, mesh, rules)
  params = init(config, jax.random.key(4), shardings)
  jax.tree.map(np.testing.assert_array_equal, params, one_device)
  for a, sharding in zip(
    jax.tree.leaves(params), jax.tree.leaves(shardings), strict=True
  ):
    assert a.sharding == sharding


def test_a_draw_above_the_size_limit_is_sharded_and_equal_to_rounding(
  config, one_device, monkeypatch
):
  monkeypatch.setattr(param, "DRAW_WHOLE_BYTES", 0)
  shardings = shardings_of(config, "mixed")
  params = init(config, jax.random.key(4), shardings)
  for a, b, sharding in zip(
    *map(jax.tree.leaves, (params, one_device, shardings)), strict=True
  ):
    assert a.sharding.is_equivalent_to(sharding, a.ndim)
    # fp32 rounding of another program's erf_inv.
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_layer_does_not_depend_on_the_depth(model_config, one_device):
  deep = init(
    model_config(n_layers=5, vocab_size=54, tie_embeddings=False),
    jax.random.key(4),
  )
  for name in ("q", "k", "v"):
    two = (
      p["groups"]["0"]["mixer"][name]["kernel"] for p in (one_device, deep)
    )
    shallow, deeper = two
    np.testing.assert_array_equal(shallow, deeper[:3])
  # What writes to the residual stream is divided by sqrt(2 L), and only that.
  o3, o5 = (
    p["groups"]["0"]["mixer"]["o"]["kernel"] for p in (one_device, deep)
  )
  # One multiplication, rounded.
  np.testing.assert_allclose(o3 * 3**0.5, o5[:3] * 5**0.5, rtol=1e-6)


def test_no_two_slices_are_the_same_draw(one_device):
  firsts = [
    float(x)
    for leaf in jax.tree.leaves(one_device)
    if np.std(leaf)
    for x in (np.asarray(leaf) / np.std(leaf)).reshape(-1, leaf.shape[-1])[:, 0]
  ]
  assert len(set(firsts)) == len(firsts)


def test_kernels_have_their_stated_deviation(model_config):
  config = model_config(d_model=96, ff_dim=200, n_layers=2, vocab_size=500)
  params = init(config, jax.random.key(0))
  layer = params["groups"]["0"]
  for kernel, std in (
    (params["embedding"], 96**-0.5),
    (layer["mixer"]["q"]["kernel"], 96**-0.5),
    (layer["mixer"]["o"]["kernel"], (96 * 2 * 2) ** -0.5),
    (layer["ffn"]["down"]["kernel"], (200 * 2 * 2) ** -0.5),
  ):
    # A sample's deviation has itself one of std / sqrt(2 n); 5 of them.
    assert np.std(kernel) == pytest.approx(
      std, abs=5 * std / (2 * kernel.size) ** 0.5
    )
