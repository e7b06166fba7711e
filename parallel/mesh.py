"""The device mesh: six named axes, whatever their sizes."""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ..errors import UserError

AXES = ("data", "fsdp", "tensor", "sequence", "expert", "stage")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis (-1 once: all that are left), and the rules."""

  data: int
  fsdp: int
  tensor: int
  sequence: int
  expert: int
  stage: int
  rules: str

  def __post_init__(self):
    sizes = {axis: getattr(self, axis) for axis in AXES}
    for axis, n in sizes.items():
      if n < 1 and n != -1:
        raise UserError(
          f"mesh.{axis}={n} must be at least 1, or -1 for all that are left"
        )
    if list(sizes.values()).count(-1) > 1:
      raise UserError(f"mesh: only one axis may be -1, not {sizes}")
    for axis in ("sequence", "expert", "stage"):
      if sizes[axis] != 1:
        raise UserError(
          f"mesh.{axis}={sizes[axis]} is not available yet; use data, fsdp"
          " and tensor"
        )

  @classmethod
  def of(cls, rules: str = "fsdp", **sizes: int) -> "MeshConfig":
    """A mesh of the named sizes; every other axis has one device."""
    return cls(**(dict.fromkeys(AXES, 1) | sizes), rules=rules)

  def for_devices(self, n_devices: int) -> "MeshConfig":
    """The same rules on `n_devices`, all along `data`."""
    sizes = dict.fromkeys(AXES, 1) | {"data": n_devices}
    return dataclasses.replace(self, **sizes)

  def sizes(self, n_devices: int) -> tuple[int, ...]:
    """Devices along each of AXES; raises UserError where they don't fit."""
    sizes = [getattr(self, axis) for axis in AXES]
    fixed = math.prod(n for n in sizes if n != -1)
    if -1 in sizes and n_devices % fixed == 0:
      sizes[sizes.index(-1)] = n_devices // fixed
    if math.prod(sizes) != n_devices:
      named = ", ".join(
        f"{axis}={n}" for axis, n in zip(AXES, sizes, strict=True) if n != 1
      )
      raise UserError(
        f"mesh ({named}) does not fill {n_devices} devices; make the"
        " product of its sizes equal to that, or one of them -1"
      )
    return tuple(sizes)


def make_mesh(config: MeshConfig, devices=None) -> Mesh:
  """Returns a mesh over `devices` (default: all) with axes AXES."""
  devices = jax.devices() if devices is None else devices
  sizes = config.sizes(len(devices))
  auto = (AxisType.Auto,) * len(AXES)
  if len(devices) == jax.device_count() > 1:
    return jax.make_mesh(sizes, AXES, axis_types=auto)
  return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=auto)
