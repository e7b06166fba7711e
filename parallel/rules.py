"""Logical axes to mesh axes, for parameters and for activations.

Models name logical axes only ("embed", "heads", ...); a table here says which
mesh axes each is split over. A `Layout` is a mesh with such a table.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from ..errors import UserError, nearest

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Rules:
  """Two tables: logical axis -> the mesh axes that it is split over."""

  params: Mapping[str, tuple[str, ...]]
  activations: Mapping[str, tuple[str, ...]]


_ACTIVATIONS = {
  "batch": ("data", "fsdp"),
  "seq": ("sequence",),
  "embed": (),
  "heads": ("tensor",),
  "kv_heads": ("tensor",),
  "head_dim": (),
  "ff": ("tensor",),
  "vocab": ("tensor",),
  "latent": (),
}

_PARAM_AXES = (
  "layers",
  "embed",
  "heads",
  "kv_heads",
  "head_dim",
  "ff",
  "vocab",
  "norm",
  "positions",
  "buckets",
  "latent",
  "experts",
)

RULES = {
  # ZeRO-3: every matrix is split over `fsdp` along the residual width.
  "fsdp": Rules(
    params={
      "layers": (),
      "embed": ("fsdp",),
      "heads": ("tensor",),
      "kv_heads": ("tensor",),
      "head_dim": (),
      "ff": ("tensor",),
      "vocab": ("tensor",),
      "norm": (),
      "positions": (),
      "buckets": (),
      "latent": (),
      "experts": ("expert",),
    },
    activations=_ACTIVATIONS,
  ),
  # Plain data parallelism: every device holds all parameters.
  "replicated": Rules(
    params=dict.fromkeys(_PARAM_AXES, ()),
    activations=_ACTIVATIONS,
  ),
}


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh and the rules by which arrays lie on it."""

  mesh: Mesh
  rules: Rules

  @classmethod
  def of(cls, mesh: Mesh, rules: str) -> "Layout":
    if rules not in RULES:
      raise UserError(
        f"mesh.rules={rules!r} is not a rules table{nearest(rules, RULES)}"
      )
    return cls(mesh, RULES[rules])

  def _split(
    self, table: Mapping[str, tuple[str, ...]], axes: Axes, what: str
  ) -> list[tuple[str, ...]]:
    """Maps logical axes through a table; refuses unknown ones, collisions."""
    parts: list[tuple[str, ...]] = []
    used: dict[str, str] = {}
    for axis in axes:
      if axis is None:
        parts.append(())
        continue
      if axis not in table:
        raise UserError(
          f"{what} has the logical axis {axis!r}, which the rules table lacks"
          f"{nearest(axis, table)}"
        )
      # A mesh axis of size 1 splits nothing, so it can't collide either.
      mesh_axes = tuple(a for a in table[axis] if self.mesh.shape[a] > 1)
      for a in mesh_axes:
        if a in used:
          raise UserError(
            f"{what}: logical axes {used[a]!r} and {axis!r} both map to the"
            f" mesh axis {a!r}; change one of them in parallel/rules.py"
          )
        used[a] = axis
      parts.append(mesh_axes)
    return parts

  def param(self, name: str, shape: Sequence[int], axes: Axes) -> NamedSharding:
    """The sharding of a parameter; raises UserError naming it."""
    parts = self._split(self.rules.params, axes, f"parameter {name}")
    for size, axis, part in zip(shape, axes, parts, strict=True):
      n = math.prod(self.mesh.shape[a] for a in part)
      if size % n:
        raise UserError(
          f"parameter {name} {tuple(shape)}: axis {axis!r} of size {size} is"
          f" not a multiple of mesh.{'*'.join(part)}={n}; change that size or"
          " the mesh"
        )
    return NamedSharding(self.mesh, _spec(parts))

  def activation(self, axes: Axes) -> NamedSharding:
    """The sharding of an activation with these logical axes."""
    parts = self._split(self.rules.activations, axes, "an activation")
    return NamedSharding(self.mesh, _spec(parts))

  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec())

  def shards(self, axis: str) -> int:
    """Over how many devices an activation's logical axis is split."""
    return math.prod(self.mesh.shape[a] for a in self.rules.activations[axis])


def _spec(parts: Sequence[tuple[str, ...]]) -> PartitionSpec:
  return PartitionSpec(*(part or None for part in parts))


def from_host(rows: np.ndarray, sharding: NamedSharding) -> Array:
  """The global array of which this host holds `rows`; hosts in order.

  Raises:
    UserError: the mesh wants a row on several hosts, and each reads its own.
  """
  array = jax.make_array_from_process_local_data(sharding, rows)
  n = len(rows) * jax.process_count()
  if len(array) != n:
    raise UserError(
      f"this mesh puts each row of the batch on several hosts, but each host"
      f" reads its own {len(rows)} rows; make mesh.data * mesh.fsdp a multiple"
      f" of the {jax.process_count()} hosts"
    )
  return array


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar(
  "layout", default=None
)


@contextlib.contextmanager
def use(layout: Layout | None) -> Iterator[None]:
  """While a function is traced in here, `constrain` speaks of `layout`."""
  token = _layout.set(layout)
  try:
    yield
  finally:
    _layout.reset(token)


def constrain(x: Array, *axes: str | None) -> Array:
  """Lays an activation out by its logical axes; nothing without a layout."""
  layout = _layout.get()
  if layout is None or layout.mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, layout.activation(axes))


def shards(axis: str) -> int:
  """Over how many devices a logical axis is split in the current layout."""
  layout = _layout.get()
  return 1 if layout is None else layout.shards(axis)


def apart(
  function: Callable[..., Any], ins: Sequence[Axes], out: Axes
) -> Callable[..., Any]:
  """`function` of each device's part of the arguments, without a word between.

  For what acts on each row, channel or head alone, and XLA would gather whole
  on every device, as it does before a Fourier transform.

  Args:
    ins: logical axes of each argument; None where a device needs all of one.
    out: those of the result.
  """
  layout = _layout.get()
  if layout is None or layout.mesh.size == 1:
    return function
  return jax.shard_map(
    function,
    mesh=layout.mesh,
    in_specs=tuple(layout.activation(axes).spec for axes in ins),
    out_specs=layout.activation(out).spec,
    # What varies between devices is not followed through gradients of one's
    # own; sums over devices are as safe without.
    check_vma=False,
  )
