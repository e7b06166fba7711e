"""Meshes: sizes that fill the devices, and messages where they do not."""

import jax
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.parallel.mesh import AXES, MeshConfig, make_mesh
from ablax.train.config import resolve


def refused(call, *args, **kwargs):
  with pytest.raises(UserError) as caught:
    call(*args, **kwargs)
  message = str(caught.value)
  assert "\n" not in message
  return message


@pytest.mark.parametrize(
  ("sizes", "n", "want"),
  [
    ({"data": 8}, 8, (8, 1, 1)),
    ({"data": 2, "fsdp": 4}, 8, (2, 4, 1)),
    ({"data": -1}, 8, (8, 1, 1)),
    ({"data": -1, "fsdp": 2, "tensor": 2}, 8, (2, 2, 2)),
    ({"data": 2, "tensor": -1}, 8, (2, 1, 4)),
    ({"data": -1, "fsdp": 8}, 8, (1, 8, 1)),
    ({"data": -1}, 1, (1, 1, 1)),
    ({}, 1, (1, 1, 1)),
  ],
  ids=str,
)
def test_minus_one_is_all_that_are_left(sizes, n, want):
  assert MeshConfig.of(**sizes).sizes(n) == (*want, 1, 1, 1)


@pytest.mark.parametrize(
  ("sizes", "named"),
  [
    ({"data": 3}, "data=3"),
    ({"data": 4, "fsdp": 4}, "data=4, fsdp=4"),
    ({"data": -1, "fsdp": 3}, "data=-1, fsdp=3"),
    ({"data": -1, "tensor": 16}, "data=-1, tensor=16"),
    ({}, ""),
  ],
  ids=str,
)
def test_sizes_that_do_not_fill_the_devices_are_refused(sizes, named):
  message = refused(MeshConfig.of(**sizes).sizes, 8)
  assert message == (
    f"mesh ({named}) does not fill 8 devices; make the product of its sizes"
    " equal to that, or one of them -1"
  )


@pytest.mark.parametrize("n", [0, -2])
def test_a_size_below_one_is_refused(n):
  message = refused(MeshConfig.of, fsdp=n)
  assert message == (
    f"mesh.fsdp={n} must be at least 1, or -1 for all that are left"
  )


def test_two_sizes_can_not_both_be_what_is_left():
  message = refused(MeshConfig.of, data=-1, fsdp=-1)
  assert "only one axis may be -1" in message
  assert "'data': -1, 'fsdp': -1" in message


@pytest.mark.parametrize("axis", ["sequence", "expert", "stage"])
@pytest.mark.parametrize("n", [2, -1])
def test_an_axis_that_is_not_available_yet_is_refused(axis, n):
  message = refused(MeshConfig.of, **{axis: n})
  assert message == (
    f"mesh.{axis}={n} is not available yet; use data, fsdp and tensor"
  )


def test_a_mesh_has_all_axes_whatever_their_sizes():
  mesh = make_mesh(MeshConfig.of(data=2, fsdp=4))
  assert mesh.axis_names == AXES
  assert tuple(mesh.shape.values()) == (2, 4, 1, 1, 1, 1)
  assert sorted(d.id for d in mesh.devices.flat) == list(range(8))


def test_a_mesh_may_have_some_of_the_devices():
  some = jax.devices()[2:4]
  mesh = make_mesh(MeshConfig.of(fsdp=-1), some)
  assert list(mesh.devices.flat) == some and mesh.shape["fsdp"] == 2


def test_another_machine_gets_all_its_devices_along_data():
  config = MeshConfig.of("replicated", data=-1, fsdp=4, tensor=2)
  assert config.for_devices(3) == MeshConfig.of("replicated", data=3)


def test_the_configs_own_mesh_fills_what_there_is():
  config = resolve(base.get_config()).mesh
  assert config == MeshConfig.of(data=-1)
  assert make_mesh(config).shape["data"] == 8
