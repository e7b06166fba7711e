"""The decode state of a whole model: one protocol for every mixer.

A mixer's `init_state` gives one layer's state; here the layers of a group are
stacked, as the loop over depth wants them. An ffn that looks at the token
before has a state too. The call that consumes a chunk of tokens returns the
state after it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..errors import UserError
from . import shift
from .config import Layer, ModelConfig
from .ffn import FFNS
from .mixers import MIXERS


def sees_later(config: ModelConfig) -> str:
  """The config word by which a token depends on later ones; "": none does."""
  for mixer in config.mixers:
    if not MIXERS[mixer].causal:
      return f"model.mixer={mixer!r}"
  return next(
    filter(None, (FFNS[f].sees_later(config) for f in config.ffns)), ""
  )


def init_state(
  config: ModelConfig, batch: int, max_len: int
) -> dict[str, tuple[Any, ...]]:
  """Returns the state before the first token.

  Args:
    batch: number of sequences.
    max_len: tokens that a state with slots has room for.

  Raises:
    UserError: a mixer of the pattern can't decode.
  """
  if word := sees_later(config):
    raise UserError(
      f"{word} is not causal, so it can't generate text; choose another, or"
      " evaluate without sampling"
    )
  for mixer in config.mixers:
    if not MIXERS[mixer].decodable:
      raise UserError(
        f"model.mixer={mixer!r} has no decode state, so it can't generate"
        " text; choose another mixer, or evaluate without sampling"
      )

  def stacked(layer: Layer, n: int):
    mixer = MIXERS[layer.mixer].init_state(config, batch, max_len)
    state = {"mixer": mixer}
    if FFNS[layer.ffn].of_previous:
      state["ffn"] = shift.init_state(config, batch)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (n, *a.shape)), state)

  return {
    name: tuple(stacked(layer, repeats) for layer in layers)
    for name, layers, repeats in config.groups
  }


def check_state(config: ModelConfig, state: Any, batch: int) -> None:
  """Refuses a state that is not of this model and so many rows.

  Raises:
    UserError: arrays of other names or shapes.
  """
  # Two sizes show which axes are slots, of which a state may have any number.
  few, many = (
    jax.eval_shape(lambda n=n: init_state(config, batch, n)) for n in (1, 2**20)
  )
  fix = f"make it by init_state(config, {batch}, max_len) of this config"
  if jax.tree.structure(state) != jax.tree.structure(few):
    raise UserError(
      f"the decode state is of other layers than {config.pattern}; {fix}"
    )
  shapes = zip(
    jax.tree_util.tree_leaves_with_path(state),
    jax.tree.leaves(few),
    jax.tree.leaves(many),
    strict=True,
  )
  for (path, leaf), a, b in shapes:
    want = tuple(
      n if n == m else "slots" for n, m in zip(a.shape, b.shape, strict=True)
    )
    if len(leaf.shape) != len(want) or any(
      w not in ("slots", n) for w, n in zip(want, leaf.shape, strict=True)
    ):
      raise UserError(
        f"the decode state's {jax.tree_util.keystr(path)} is {leaf.shape}, and"
        f" that of this model with {batch} rows is {want}; {fix}"
      )


def select_rows(
  config: ModelConfig, state: dict[str, Any], rows: Int[Array, " B"]
) -> dict[str, Any]:
  """The state whose row i is row `rows[i]` of `state`, for every mixer.

  A leaf without a batch axis, such as a slot that all rows share, stays.
  """
  # The axis whose size is the batch, found by asking for two sizes.
  two, three = (
    jax.eval_shape(lambda n=n: init_state(config, n, 1)) for n in (2, 3)
  )

  def select(leaf, a, b):
    axes = [i for i, n in enumerate(a.shape) if n != b.shape[i]]
    return jnp.take(leaf, rows, axis=axes[0]) if axes else leaf

  return jax.tree.map(select, state, two, three)


def state_bytes(config: ModelConfig, batch: int, max_len: int) -> int:
  """Bytes of the decode state."""
  state = jax.eval_shape(lambda: init_state(config, batch, max_len))
  return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(state))
