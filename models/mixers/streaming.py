"""StreamingLLM's sinks and window (Xiao et al. 2023, arXiv:2309.17453)."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array

from ...errors import UserError
from ...kernels.flash_attention import Pairs, merge
from ..context import Context
from ..positions import POSITIONS
from . import attention, cache


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  window: int = 128  # tokens that one sees, itself among them
  first: int = 4  # tokens of the document that are always seen

  def __post_init__(self):
    super().__post_init__()
    for key in ("window", "first"):
      if getattr(self, key) < 1:
        raise UserError(f"{key}={getattr(self, key)} must be at least 1")
    if self.sinks:
      raise UserError(
        "sinks=True is a learned score; streaming's first tokens serve the same"
        " end: set it to False, or choose sliding_window"
      )


def _is_first(q, k, shared):
  """Keys among the first, where they are not in the window any more."""
  (q_BT,), (k_BS,), (first, window) = q, k, shared
  q_BT1, k_B1S = q_BT[:, :, None], k_BS[:, None, :]
  return ((k_B1S < first) & (q_BT1 - k_B1S >= window))[:, None]


class Streaming(attention.Attention):
  """Attention to the first tokens of a document and to its last ones.

  Positions are those in the cache: once tokens have left it, the first ones
  are as far away as the cache is long, and no further. Its state is the first
  tokens and the window, however long the text.
  """

  word = "streaming"
  option_type = Options

  @classmethod
  def check(cls, config):
    super().check(config)
    word = cls.position_word(config)
    if POSITIONS[word].of_length:
      raise UserError(
        f"model.position={word!r} follows the length of the text, and"
        f" model.mixer={cls.word!r} knows its cache alone; choose rope or yarn"
      )
    if not POSITIONS[word].relative:
      raise UserError(
        f"model.position={word!r} numbers tokens from the beginning, and"
        f" model.mixer={cls.word!r} counts within its cache; choose an encoding"
        " of distances, such as rope or alibi"
      )

  @classmethod
  def window(cls, config):
    return cls.options(config).window

  def remember(self, state, new, ctx):
    if state is None:
      slots = cache.only_chunk(new, ctx)
      return (slots, slots), None
    last, kept = cache.slide(state["last"], new, ctx)
    first, _ = cache.slide(state["first"], new, ctx)
    return (last, first), {
      "last": kept,
      "first": _keep_first(state["first"], new, ctx),
    }

  def mix(self, position, q_BTNH, ctx, slots):
    """Over the window and over the first tokens, merged by their logsumexp."""
    o = self.options(self.config)
    last, first = slots
    near = self.attend(position, q_BTNH, ctx, last, return_lse=True)
    sees = (jnp.asarray(o.first), jnp.asarray(o.window))
    keys = (first.positions_BS,)
    far = self.attend(
      position,
      q_BTNH,
      ctx,
      first,
      reach=max(first.positions_BS.shape[1], o.first + o.window),
      q_positions_BT=jnp.minimum(ctx.positions_BT, o.first + o.window - 1),
      window=0,
      mask=Pairs(_is_first, (ctx.positions_BT,), keys, sees, o.first),
      return_lse=True,
    )
    return merge(*near, *far)[0]

  @classmethod
  def init_state(cls, config, batch, max_len):
    o, shapes = cls.options(config), cls.slot_shapes(config)
    return {
      name: cache.init(shapes, config.compute_dtype, batch, n)
      for name, n in (("last", min(o.window, max_len)), ("first", o.first))
    }

  @classmethod
  def slots(cls, config, max_len):
    o = cls.options(config)
    return min(o.window, max_len) + o.first


def _keep_first(
  state: Mapping[str, Array], new: Mapping[str, Array], ctx: Context
) -> dict[str, Array]:
  """Slot j keeps the last token seen that stands at position j."""
  n, T = state["segments"].shape[1], ctx.positions_BT.shape[1]
  segments_BT = cache.segments_of(ctx)
  chunk = {**new, "segments": segments_BT, "positions": ctx.positions_BT}
  real_BT = segments_BT != 0
  here_BTn = (ctx.positions_BT[..., None] == jnp.arange(n)) & real_BT[..., None]
  last_Bn = T - 1 - jnp.argmax(here_BTn[:, ::-1], axis=1)
  found_Bn = here_BTn.any(axis=1)

  def keep(name: str) -> Array:
    old, a = state[name], chunk[name].astype(state[name].dtype)
    tail = (1,) * (a.ndim - 2)
    taken = jnp.take_along_axis(
      a, last_Bn.reshape(*last_Bn.shape, *tail), axis=1
    )
    return jnp.where(found_Bn.reshape(*found_Bn.shape, *tail), taken, old)

  return {name: keep(name) for name in state}
