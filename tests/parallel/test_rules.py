"""Rules: where arrays lie by their logical axes, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ablax.errors import UserError
from ablax.parallel import rules
from ablax.parallel.mesh import AXES, MeshConfig, make_mesh
from ablax.parallel.rules import RULES, Layout, Rules, constrain, shards, use


def layout(table="fsdp", **sizes):
  return Layout.of(make_mesh(MeshConfig.of(**sizes)), table)


@pytest.fixture
def mixed():
  return layout(data=2, fsdp=2, tensor=2)


def refused(call, *args):
  with pytest.raises(UserError) as caught:
    call(*args)
  message = str(caught.value)
  assert "\n" not in message
  return message


def test_every_table_speaks_of_the_same_axes_and_of_real_ones():
  for table in RULES.values():
    assert set(table.params) == set(rules._PARAM_AXES)
    for side in (table.params, table.activations):
      assert {a for axes in side.values() for a in axes} <= set(AXES)


def test_an_unknown_table_is_refused_with_the_nearest():
  mesh = make_mesh(MeshConfig.of(data=8))
  assert refused(Layout.of, mesh, "fsdpp") == (
    "mesh.rules='fsdpp' is not a rules table; did you mean 'fsdp'?"
  )


@pytest.mark.parametrize(
  ("shape", "axes", "want"),
  [
    ((3, 8, 4), ("layers", "embed", "ff"), P(None, ("fsdp",), ("tensor",))),
    ((8, 4, 5), ("embed", "heads", "head_dim"), P("fsdp", "tensor", None)),
    ((64, 8), ("vocab", "embed"), P("tensor", "fsdp")),
    ((7,), ("norm",), P(None)),
    ((7,), (None,), P(None)),
  ],
)
def test_a_parameter_lies_by_its_logical_axes(mixed, shape, axes, want):
  found = mixed.param("w", shape, axes)
  same = jax.sharding.NamedSharding(mixed.mesh, want)
  assert found.is_equivalent_to(same, len(shape))


def test_replicated_parameters_are_whole_everywhere():
  found = layout("replicated", data=2, fsdp=4).param(
    "w", (3, 5), ("embed", "ff")
  )
  assert found.is_fully_replicated


def test_a_batch_is_split_over_data_and_fsdp(mixed):
  found = mixed.activation(("batch", "seq"))
  assert found.shard_shape((8, 6)) == (2, 6)
  assert mixed.shards("batch") == 4 and mixed.shards("heads") == 2
  assert mixed.shards("seq") == mixed.shards("embed") == 1


def test_sizes_that_do_not_divide_name_parameter_sizes_and_fix(mixed):
  message = refused(
    mixed.param, "groups/q", (8, 3, 5), ("embed", "heads", None)
  )
  assert message == (
    "parameter groups/q (8, 3, 5): axis 'heads' of size 3 is not a multiple of"
    " mesh.tensor=2; change that size or the mesh"
  )


def test_an_axis_of_one_device_divides_everything():
  assert layout(data=8).param("w", (3, 5), ("embed", "heads"))


def test_an_unknown_logical_axis_is_refused_with_the_nearest(mixed):
  assert refused(mixed.param, "w", (8,), ("embde",)) == (
    "parameter w has the logical axis 'embde', which the rules table lacks;"
    " did you mean 'embed'?"
  )
  message = refused(mixed.activation, ("bacth",))
  assert message.startswith("an activation has the logical axis 'bacth'")


def test_two_logical_axes_on_one_mesh_axis_collide(mixed):
  assert refused(mixed.param, "w", (8, 8), ("heads", "ff")) == (
    "parameter w: logical axes 'heads' and 'ff' both map to the mesh axis"
    " 'tensor'; change one of them in parallel/rules.py"
  )
  # One axis twice is the same collision; over one device there is none.
  assert "both map" in refused(mixed.param, "w", (8, 8), ("embed", "embed"))
  assert layout(data=8).param("w", (8, 8), ("heads", "ff"))


def test_a_part_of_a_product_of_mesh_axes_collides_too(mixed):
  both = Rules({"a": ("data", "fsdp"), "b": ("fsdp",)}, {})
  wide = Layout(mixed.mesh, both)
  assert wide.param("w", (4, 3), ("a", None)).shard_shape((4, 3)) == (1, 3)
  assert "mesh axis 'fsdp'" in refused(wide.param, "w", (4, 4), ("a", "b"))
  message = refused(wide.param, "w", (6,), ("a",))
  assert "axis 'a' of size 6 is not a multiple of mesh.data*fsdp=4" in message


# constrain.

X = jnp.arange(8 * 6, dtype=jnp.float32).reshape(8, 6)


def constraints(function, *args):
  return str(jax.make_jaxpr(function)(*args)).count("sharding_constraint")


def test_constrain_is_nothing_without_a_layout():
  assert constrain(X, "batch", "seq") is X
  # Nor are names looked up: a model needs no mesh to be understood.
  assert constrain(X, "what", "ever") is X
  assert shards("batch") == 1


def test_constrain_is_nothing_on_one_device():
  mesh = make_mesh(MeshConfig.of(), jax.devices()[:1])
  with use(Layout.of(mesh, "fsdp")):
    assert constrain(X, "batch", "seq") is X


def test_constrain_lays_out_and_changes_no_number(mixed):
  def double(x):
    with use(mixed):
      return constrain(2 * x, "batch", "seq")

  assert constraints(double, X) == 1
  y = jax.jit(double)(X)
  np.testing.assert_array_equal(y, 2 * X)
  assert y.sharding.is_equivalent_to(mixed.activation(("batch", "seq")), 2)


def test_a_layout_ends_with_its_block_also_after_an_error(mixed):
  with pytest.raises(KeyError), use(mixed):
    assert shards("batch") == 4
    with use(None):
      assert shards("batch") == 1
    assert shards("batch") == 4
    raise KeyError
  assert shards("batch") == 1


def test_constrain_refuses_what_the_table_lacks(mixed):
  with use(mixed):
    assert "'bacth'" in refused(lambda: constrain(X, "bacth", "seq"))


def test_a_batch_from_one_host_is_placed_whole(mixed):
  place = mixed.activation(("batch", None))
  got = rules.from_host(np.asarray(X), place)
  np.testing.assert_array_equal(got, X)
  assert got.sharding.is_equivalent_to(place, 2)
