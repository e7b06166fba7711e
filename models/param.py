"""Parameters: one declaration gives shape, initialiser and logical axes.

A module declares a parameter through `declare`. The declarations of a model,
`specs`, say all that placement, optimizers and accounting need to know; the
parameters themselves are plain nested dicts of arrays.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

Init = Callable[[Array, tuple[int, ...], Any], Array]
Params = Mapping[str, Any]

# A slice larger than this is drawn sharded: equal to rounding, not to bits.
DRAW_WHOLE_BYTES = 2**30


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("value",),
  meta_fields=("axes", "init", "roles", "step"),
)
@dataclasses.dataclass(frozen=True)
class Declared(meta.AxisMetadata):
  """A parameter with its logical axes and initialiser, while Flax inits."""

  value: Any
  axes: tuple[str, ...]
  init: Init
  roles: tuple[str, ...] = ()
  step: float = 0.0

  def unbox(self):
    return self.value

  def replace_boxed(self, val):
    return dataclasses.replace(self, value=val)

  def add_axis(self, index, params):
    axes = (*self.axes[:index], params[nn.PARTITION_NAME], *self.axes[index:])
    roles = self.roles
    if roles:
      roles = (*roles[:index], "batch", *roles[index:])
    return dataclasses.replace(self, axes=axes, roles=roles)

  def remove_axis(self, index, params):
    del params
    axes = self.axes[:index] + self.axes[index + 1 :]
    roles = self.roles[:index] + self.roles[index + 1 :]
    return dataclasses.replace(self, axes=axes, roles=roles)


@dataclasses.dataclass(frozen=True)
class ParamSpec:
  """One parameter as declared; `axes` begin with "layers" where stacked.

  `roles` says of each axis of a linear map whether it is "in", "out" or
  "batch" (one map for each layer, expert...); it is empty for what is no
  linear map: norms, biases, decays. `base_shape` is that in muP's proxy, and
  empty without muP. With a `step` an update moves each number by so much
  against the sign of its gradient, whatever the optimizer; see `signed_step`.
  """

  shape: tuple[int, ...]
  dtype: Any
  axes: tuple[str, ...]
  init: Init
  roles: tuple[str, ...] = ()
  base_shape: tuple[int, ...] = ()
  step: float = 0.0

  @property
  def stacked(self) -> bool:
    """Whether its first axis is that of the layers."""
    return self.axes[:1] == ("layers",)

  @property
  def size(self) -> int:
    return int(np.prod(self.shape))


def declare(
  module: nn.Module,
  name: str,
  init: Init,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  dtype: str,
  roles: tuple[str, ...] = (),
  step: float = 0.0,
) -> Any:
  """Declares a parameter of `module` and returns its value.

  Args:
    roles: of the axes, where it is a linear map; see `ParamSpec`.
    step: of an update, where it follows the sign of its gradient alone.
  """
  assert len(shape) == len(axes), (name, shape, axes)
  assert len(roles) in (0, len(axes)), (name, axes, roles)

  def boxed(key):
    value = init(key, shape, jnp.dtype(dtype))
    return Declared(value, axes, init, roles, step)

  return module.param(name, boxed)


# So small that the norm of a gradient is the same with it and without.
_SIGN = 1e-20


def signed_step(
  parameter_E: Float[Array, " E"], too_large_BE: Float[Array, "B E"]
) -> Float[Array, " B"]:
  """A loss of 0, by which a parameter declared with a `step` goes down.

  It goes down where `too_large_BE`, added up over the batch, is positive, and
  up where it is negative.
  """
  zero_E = parameter_E - jax.lax.stop_gradient(parameter_E)
  return (_SIGN * jax.lax.stop_gradient(too_large_BE) * zero_E).sum(-1)


def normal(std: float) -> Init:
  """Draws N(0, std^2); equal `std` gives an equal function, so jit caches."""
  return _normal(float(std))


@functools.cache
def _normal(std: float) -> Init:
  return lambda key, shape, dtype: std * jax.random.normal(key, shape, dtype)


def zeros(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
  del key
  return jnp.zeros(shape, dtype)


def ones(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
  del key
  return jnp.ones(shape, dtype)


def specs(module: nn.Module, *args, **kwargs) -> dict[str, Any]:
  """Returns the nested dict of `ParamSpec` of a module, without computing."""
  key = jax.random.key(0)
  init = functools.partial(module.init, **kwargs)
  variables = jax.eval_shape(init, key, *args)
  return jax.tree.map(
    lambda d: ParamSpec(
      d.value.shape, d.value.dtype, d.axes, d.init, d.roles, step=d.step
    ),
    dict(variables.get("params", {})),
    is_leaf=lambda leaf: isinstance(leaf, Declared),
  )


def path_of(key_path: tuple[Any, ...]) -> str:
  """A pytree key path as "groups/0/mixer/q/kernel"."""
  return "/".join(str(getattr(k, "key", k)) for k in key_path)


def init_params(
  specs: Mapping[str, Any],
  key: Array,
  shardings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Draws the parameters, the same bits on any mesh.

  Each parameter has its own key, from its path; each layer of a stacked one
  its own, from its index. One slice is drawn whole by one program, then cut
  and placed, so that neither the mesh nor the depth changes a number.

  Args:
    specs: nested dict of `ParamSpec`.
    key: typed PRNG key.
    shardings: the same tree of `NamedSharding`; None: on the first device.
  """
  leaves, tree = jax.tree_util.tree_flatten_with_path(specs)
  places = tree.flatten_up_to(shardings) if shardings else [None] * len(leaves)
  drawn = []
  for (path, spec), place in zip(leaves, places, strict=True):
    leaf_key = jax.random.fold_in(key, zlib.crc32(path_of(path).encode()))
    if spec.stacked:
      keys = [jax.random.fold_in(leaf_key, i) for i in range(spec.shape[0])]
    else:
      keys = [leaf_key]
    drawn.append(_draw(spec, keys, place))
  return tree.unflatten(drawn)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw_slice(init, shape, dtype, key):
  return init(key, shape, dtype)


def _draw(spec: ParamSpec, keys, sharding: NamedSharding | None) -> Array:
  shape = spec.shape[1:] if spec.stacked else spec.shape
  slice_bytes = int(np.prod(shape)) * jnp.dtype(spec.dtype).itemsize
  if sharding is not None and slice_bytes > DRAW_WHOLE_BYTES:

    def whole(keys):
      slices = [spec.init(key, shape, spec.dtype) for key in keys]
      return jnp.stack(slices) if spec.stacked else slices[0]

    return jax.jit(whole, out_shardings=sharding)(keys)
  if sharding is None:
    slices = [_draw_slice(spec.init, shape, spec.dtype, key) for key in keys]
    return jnp.stack(slices) if spec.stacked else slices[0]
  indices: Any = sharding.addressable_devices_indices_map(spec.shape)
  shards = {
    device: np.empty(sharding.shard_shape(spec.shape), spec.dtype)
    for device in indices
  }
  for i, key in enumerate(keys):
    drawn = np.asarray(_draw_slice(spec.init, shape, spec.dtype, key))
    for device, index in indices.items():
      if not spec.stacked:
        shards[device][...] = drawn[index]
        continue
      layers = range(*index[0].indices(spec.shape[0]))
      if i in layers:
        shards[device][i - layers.start] = drawn[index[1:]]
  return jax.make_array_from_single_device_arrays(
    spec.shape,
    sharding,
    [jax.device_put(shard, device) for device, shard in shards.items()],
  )
