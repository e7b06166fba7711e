"""Longformer: window and global tokens (Beltagy et al. 2020, arXiv:2004.05150).

The paper's is bidirectional; here a causal model has the first tokens of a
document as its global ones, and `own_projections` says whether what these
gather has projections of its own, as the paper's, or the others'.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ..config import ModelConfig
from ..context import Context
from ..positions import Position
from . import State, attention
from .cache import Slots


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  window: int = 128  # tokens that one sees, itself among them
  n_global: int = 4  # tokens at the beginning of a document that all see
  dilation: int = 1  # the window of the heads' second half has every d-th token
  # What global tokens gather has q, k and v of its own; the cache is twice as
  # large.
  own_projections: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.own_projections and self.sinks:
      raise UserError(
        "own_projections=True and sinks=True: global tokens would have no sinks"
        " of their own; set one to False"
      )
    if self.window < 1 or self.dilation < 1 or self.n_global < 0:
      raise UserError(
        f"window={self.window} and dilation={self.dilation} must be at least 1,"
        f" and n_global={self.n_global} at least 0"
      )


def _seen(q, k, shared):
  (q_BT,), (k_BS,), (window, n_global, step_N) = q, k, shared
  q_BT1, k_B1S = q_BT[:, :, None], k_BS[:, None, :]
  ago_B1TS = (q_BT1 - k_B1S)[:, None]
  step_N11 = step_N[:, None, None]
  near = (jnp.abs(ago_B1TS) < window * step_N11) & (ago_B1TS % step_N11 == 0)
  global_BTS = (k_B1S < n_global) | (q_BT1 < n_global)
  return near | global_BTS[:, None]


class Longformer(attention.Attention):
  """The last `window` tokens, dilated in half of the heads, and global ones."""

  word = "longformer"
  option_type = Options

  def mask(self, ctx: Context, slots: Slots) -> Pairs:
    o, N = self.options(self.config), self.config.n_heads
    step_N = jnp.where(jnp.arange(N) < -(-N // 2), 1, o.dilation)
    if o.dilation == 1:
      step_N = jnp.ones((1,), jnp.int32)
    shared = (jnp.asarray(o.window), jnp.asarray(o.n_global), step_N)
    keys, seen = (slots.positions_BS,), o.window + o.n_global
    return Pairs(_seen, (ctx.positions_BT,), keys, shared, seen)

  def project(
    self, x_BTD: Array, ctx: Context
  ) -> tuple[Array, dict[str, Array]]:
    q_BTNH, new = super().project(x_BTD, ctx)
    if self.options(self.config).own_projections:
      sources = {"global_": x_BTD}
      asked_BTNH, more = self.projected(x_BTD, sources, ctx, "global_")
      new |= more | {"global_q": asked_BTNH}
    return q_BTNH, new

  def turn_keys(
    self, position: Position, new: Mapping[str, Array], ctx: Context
  ) -> dict[str, Array]:
    names = ("k", "global_k") if "global_k" in new else ("k",)
    return {**new, **{k: self.turn(position, new[k], ctx) for k in names}}

  def remember(
    self, state: State | None, new: Mapping[str, Array], ctx: Context
  ) -> tuple[Any, State | None]:
    kept = {k: a for k, a in new.items() if k != "global_q"}
    slots, state = super().remember(state, kept, ctx)
    return (slots, new.get("global_q")), state

  def mix(
    self, position: Position, q_BTNH: Array, ctx: Context, slots: Any
  ) -> Array:
    slots, asked_BTNH = slots
    near_BTNH = self.attend(position, q_BTNH, ctx, slots)
    if asked_BTNH is None:
      return near_BTNH
    arrays = {k: slots.arrays[f"global_{k}"] for k in "kv"}
    theirs = slots._replace(arrays=arrays)
    # A global token sees all that it may, and so asks no mask.
    all_BTNH = self.attend(position, asked_BTNH, ctx, theirs, mask=None)
    is_global_BT = ctx.positions_BT < self.options(self.config).n_global
    return jnp.where(is_global_BT[..., None, None], all_BTNH, near_BTNH)

  @classmethod
  def slot_shapes(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    found = super().slot_shapes(config)
    if cls.options(config).own_projections:
      found |= {f"global_{name}": shape for name, shape in found.items()}
    return found
