"""Where the optimizer's state lies on a mesh, and that it steps there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ablax.models.param import path_of
from ablax.parallel.mesh import MeshConfig, make_mesh
from ablax.parallel.rules import Layout
from ablax.train.optimizers import OPTIMIZERS, make_optimizer
from ablax.train.placement import place_opt_state
from ablax.train.setup import Setup


def setup_of(config, rules="fsdp"):
  mesh = make_mesh(MeshConfig.of(data=2, fsdp=2, tensor=2))
  return Setup.of(config.with_vocab(64), Layout.of(mesh, rules))


# Arrays of a parameter's shape, for each parameter.
COPIES = {
  "adamw": 2,
  "sgd": 1,
  "lion": 1,
  "adan": 4,
  "lamb": 2,
  "sophia": 2,
  "schedule_free": 2,
}


@pytest.mark.parametrize("rules", ["fsdp", "replicated"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_has_a_parameters_shape_lies_as_the_parameter(small, name, rules):
  setup = setup_of(small(opt__name=name), rules)
  abstract = setup.abstract()
  params = {
    path_of(path): (a.shape, a.sharding)
    for path, a in jax.tree_util.tree_flatten_with_path(abstract.params)[0]
  }
  copies = dict.fromkeys(params, 0)
  for path, a in jax.tree_util.tree_flatten_with_path(abstract.opt_state)[0]:
    keys = [str(getattr(k, "key", "")) for k in path]
    about = [p for p in params if f"/{p}/" in "/".join(["", *keys, ""])]
    if about and a.shape == params[about[0]][0]:
      assert a.sharding == params[about[0]][1]
      copies[about[0]] += 1
    else:
      spec = a.sharding.spec
      assert not any(spec[1:]) and (about or not any(spec))
  if name in COPIES:
    assert set(copies.values()) == {COPIES[name]}


@pytest.mark.parametrize("average", ["ema", "latest"])
def test_averages_lie_as_the_weights(small, average):
  # As many updates as it takes to have a snapshot.
  setup = setup_of(small(opt__average=average, steps=100))
  (mean,) = (
    tree
    for tree in setup.shardings.opt_state["average"].values()
    if isinstance(tree, dict)
  )

  def check(mine, param):
    axes = tuple(mine.spec)
    assert axes[average == "latest" :] == tuple(param.spec)

  jax.tree.map(check, mean, setup.shardings.params)


def test_the_first_state_is_placed_as_said(small):
  setup = setup_of(small(opt__name="adafactor", opt__average="ema"))
  state = setup.init()
  jax.tree.map(
    lambda a, s: np.testing.assert_(a.sharding.is_equivalent_to(s, a.ndim)),
    state,
    setup.shardings,
  )
  mean = state.opt_state["average"]["mean"]["groups"]["0"]["ffn"]["up"]
  # [L, D, F]: D over fsdp, F over tensor; a quarter on each device.
  kernel = mean["kernel"]
  assert kernel.addressable_shards[0].data.size * 4 == kernel.size


@pytest.mark.parametrize("name", ["muon", "soap", "shampoo", "adafactor"])
def test_an_update_is_the_same_on_a_mesh(name):
  """Square matrices: each gradient spans them, so that bases are well set."""
  roles = ("batch", "in", "out")
  specs = {
    "up": toy.spec((2, 4, 4), ("layers", "embed", "ff"), roles),
    "down": toy.spec((2, 4, 4), ("layers", "ff", "embed"), roles),
    "scale": toy.spec((2, 4), ("layers", "norm"), ()),
  }
  optimizer = make_optimizer(toy.opt(name), lambda _: 0.1, specs)
  start = toy.draw(specs, 0)
  grads = [toy.draw(specs, seed) for seed in range(1, 4)]
  results = []
  for sizes in ({"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
    devices = jax.devices()[: int(np.prod(list(sizes.values())))]
    layout = Layout.of(make_mesh(MeshConfig.of(**sizes), devices), "fsdp")
    places = {k: layout.param(k, s.shape, s.axes) for k, s in specs.items()}
    state = jax.eval_shape(optimizer.init, start)
    state_places = place_opt_state(state, specs, layout)
    state = jax.jit(optimizer.init, out_shardings=state_places)(start)
    update = jax.jit(optimizer.update, out_shardings=(places, state_places))
    params = jax.device_put(start, places)
    for count, g in enumerate(grads):
      g = jax.device_put(g, places)
      updates, state = update(g, state, params, count=jnp.int32(count))
      params = jax.tree.map(jnp.add, params, updates)
    results.append(jax.device_get(params))
  # Sums in another order: some roundings of numbers of size 1, which inverse
  # roots multiply by the condition to the power 1/4: about 10.
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)
