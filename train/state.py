"""The training state: one pytree, saved and restored as a whole."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..models.context import hash32
from ..models.param import Params


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("step", "params", "opt_state", "rng", "loss_scale"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that an update changes, and the key it draws from.

  Attributes:
    step: updates done, those that float16 skipped too.
    rng: key data; the key of an update is this one folded with its step.
    loss_scale: of float16, see train/loss_scale.py; otherwise empty.
  """

  step: Any  # int32 []
  params: Any  # Params, or what stands for them, as axes do
  opt_state: Any
  rng: Any  # uint32 [2]
  loss_scale: Any  # dict; Orbax puts leaves of its own for an empty one


# Of several runs in one state, as axes for jax.vmap: stacked, but for the step,
# which they share. A condition on it is then one for all, and stays a branch;
# a condition that differs between runs would compute both sides.
STACKED = TrainState(None, 0, 0, 0, 0)


def in_float32(params: Params) -> Params:
  """The parameters as the optimizer sees them, whatever they are kept in."""
  return jax.tree.map(lambda p: p.astype(jnp.float32), params)


@jax.jit
def _hash_leaf(a: Array) -> Array:
  words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[a.dtype.itemsize]
  if a.dtype != words:
    a = a.astype(words) if a.dtype == bool else a.view(words)
  index = jnp.zeros(a.shape, jnp.uint32)
  for axis, size in enumerate(a.shape):
    index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, a.shape, axis
    )
  # A bijection of each word: no flipped bit can vanish from the sum. Integer
  # sums do not depend on their order, so that every mesh agrees.
  words = hash32(a.astype(jnp.uint32) + hash32(index))
  return jnp.sum(words, dtype=jnp.uint32)


def fingerprints(tree: Any) -> dict[str, str]:
  """A hash of each leaf's exact bits, by path; the same on any mesh."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  hashes = jax.device_get([_hash_leaf(leaf) for _, leaf in leaves])

  def name(path):
    return "/".join(
      str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))
      for k in path
    )

  return {
    name(path): f"{int(value):08x}"
    for (path, _), value in zip(leaves, hashes, strict=True)
  }
