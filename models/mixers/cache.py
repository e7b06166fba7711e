"""What a softmax mixer keeps of the tokens before: slots in order of time.

`append` writes into as many slots as a text may have tokens; `slide` keeps the
last ones alone. Both give the slots that a chunk's queries may look at, and
which of them is the first query's own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ..context import Context


class Slots(NamedTuple):
  """What the queries of a chunk look at.

  Attributes:
    arrays: by name, [B, S, ...].
    positions_BS, segments_BS: of each slot; segment 0 is empty, and within a
      document there is none. None: there is one in each row, and no padding.
    offset: the slot of the chunk's first token.
  """

  arrays: dict[str, Array]
  positions_BS: Int[Array, "B S"]
  segments_BS: Int[Array, "B S"] | None
  offset: int | Int[Array, ""]


def segments_of(ctx: Context) -> Int[Array, "B T"]:
  """Documents of a chunk; 1 where the row is one."""
  if ctx.segment_ids_BT is None:
    return jnp.ones_like(ctx.positions_BT)
  return ctx.segment_ids_BT


def lengths(
  segments_BS: Int[Array, "B S"] | None, ctx: Context
) -> Int[Array, "B S"]:
  """Tokens so far of the documents of some slots.

  Only documents that the chunk goes on with have the right length: the others'
  keys are not seen.
  """
  of_BT = segments_of(ctx)
  of_BS = of_BT if segments_BS is None else segments_BS
  same_BST = of_BS[:, :, None] == of_BT[:, None, :]
  return jnp.where(same_BST, ctx.positions_BT[:, None], 0).max(-1) + 1


def only_chunk(new: Mapping[str, Array], ctx: Context) -> Slots:
  """Without a state: the chunk is all there is."""
  return Slots(dict(new), ctx.positions_BT, ctx.segment_ids_BT, 0)


def _tagged(new: Mapping[str, Array], ctx: Context) -> dict[str, Array]:
  tags = {"segments": segments_of(ctx), "positions": ctx.positions_BT}
  return {**new, **tags}


def _slots(state: Mapping[str, Array], offset: Any) -> Slots:
  tags = ("segments", "positions", "next")
  arrays = {k: a for k, a in state.items() if k not in tags}
  return Slots(arrays, state["positions"], state["segments"], offset)


def init(
  shapes: Mapping[str, tuple[int, ...]], dtype: Any, batch: int, slots: int
) -> dict[str, Array]:
  """Empty slots.

  Args:
    shapes: of one slot, by name.
  """
  arrays = {
    name: jnp.zeros((batch, slots, *shape), dtype)
    for name, shape in shapes.items()
  }
  tags = jnp.zeros((batch, slots), jnp.int32)
  return {**arrays, "segments": tags, "positions": tags}


def append(
  state: Mapping[str, Array], new: Mapping[str, Array], ctx: Context
) -> tuple[Slots, dict[str, Array]]:
  """Writes a chunk behind what is there; `state["next"]` says where."""
  offset = state["next"]
  kept: dict[str, Array] = {
    name: jax.lax.dynamic_update_slice_in_dim(
      state[name], a.astype(state[name].dtype), offset, axis=1
    )
    for name, a in _tagged(new, ctx).items()
  }
  slots = _slots(kept, offset)
  kept["next"] = offset + ctx.positions_BT.shape[1]
  return slots, kept


def slide(
  state: Mapping[str, Array], new: Mapping[str, Array], ctx: Context
) -> tuple[Slots, dict[str, Array]]:
  """Puts a chunk behind the last slots, and keeps as many as there were."""
  joined = {
    name: jnp.concatenate([state[name], a.astype(state[name].dtype)], axis=1)
    for name, a in _tagged(new, ctx).items()
  }
  n = state["segments"].shape[1]
  kept = {name: a[:, a.shape[1] - n :] for name, a in joined.items()}
  return _slots(joined, n), kept
