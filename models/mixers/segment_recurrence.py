"""Segment-level recurrence (Dai et al. 2019, arXiv:1901.02860; section 3.2).

A document is read in segments. A token sees its own segment and the last
`memory` tokens before it, whose hidden states no gradient reaches; the keys and
values that the layer's weights make of them, it does. The paper gives each
update one segment, with a memory from older weights; here the segments of a row
are in one update, and a document's memory ends with the row. With
model.position = "transformer_xl" it is that paper's model.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from . import attention, cache


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  segment: int = 64  # tokens that a gradient reaches back over at most
  memory: int = 64  # tokens before the segment that are seen; 0: none

  def __post_init__(self):
    super().__post_init__()
    if self.segment < 1 or self.memory < 0:
      raise UserError(
        f"segment={self.segment} must be at least 1, and memory={self.memory}"
        " at least 0"
      )


# Of a chunk's tokens there are two copies: one that no gradient leaves, for
# later segments, and one for its own. A cached token serves both.
_OWN, _PAST, _BOTH = 0, 1, 2


def _seen(q, k, shared):
  (q_BT,), (k_BS, copy_BS), (segment, memory) = q, k, shared
  starts_BT1 = (q_BT // segment * segment)[:, :, None]
  k_B1S, copy_B1S = k_BS[:, None, :], copy_BS[:, None, :]
  past_BTS = (k_B1S < starts_BT1) & (k_B1S >= starts_BT1 - memory)
  own_BTS = k_B1S >= starts_BT1
  seen_BTS = (past_BTS & (copy_B1S != _OWN)) | (own_BTS & (copy_B1S != _PAST))
  return seen_BTS[:, None]


class SegmentRecurrence(attention.Attention):
  """Attention to the token's segment and to a memory of those before it."""

  word = "segment_recurrence"
  option_type = Options

  @classmethod
  def window(cls, config):
    o = cls.options(config)
    return o.segment + o.memory

  def project(self, x_BTD, ctx):
    sources = {"": x_BTD, "past_": jax.lax.stop_gradient(x_BTD)}
    return self.projected(x_BTD, sources, ctx)

  def turn_keys(self, position, new, ctx):
    turned = super().turn_keys(position, new, ctx)
    return {**turned, "past_k": self.turn(position, new["past_k"], ctx)}

  def remember(self, state, new, ctx):
    kept = {"k": new["k"], "v": new["v"]}
    if state is not None:
      return super().remember(state, kept, ctx)

    def behind(past: Array, own: Array) -> Array:
      return jnp.concatenate([past, own], axis=1)

    arrays = {name: behind(new[f"past_{name}"], a) for name, a in kept.items()}
    positions_BT, segments_BT = ctx.positions_BT, ctx.segment_ids_BT
    arrays["copy"] = behind(
      jnp.full_like(positions_BT, _PAST), jnp.full_like(positions_BT, _OWN)
    )
    slots = cache.Slots(
      arrays,
      behind(positions_BT, positions_BT),
      None if segments_BT is None else behind(segments_BT, segments_BT),
      positions_BT.shape[1],
    )
    return slots, None

  def mix(self, position, q_BTNH, ctx, slots):
    # The mask says it all; slots of both copies are no measure of distance.
    return self.attend(position, q_BTNH, ctx, slots, window=0)

  def mask(self, ctx, slots):
    o = self.options(self.config)
    at_BS = slots.positions_BS
    copy_BS = slots.arrays.get("copy", jnp.full_like(at_BS, _BOTH))
    shared = (jnp.asarray(o.segment), jnp.asarray(o.memory))
    seen = o.memory + (o.segment + 1) // 2
    return Pairs(_seen, (ctx.positions_BT,), (at_BS, copy_BS), shared, seen)
