"""Native sparse attention (Yuan et al. 2025, arXiv:2502.11089).

Where it differs from the paper: what is selected is a mask of the common
kernel, which skips tiles that no query of a block sees, and nothing is
gathered; a gate is the sigmoid of a linear map, not of an MLP; the MLP that
compresses is the same for all heads and has one hidden layer, as wide as a
head. The paper does not say where a compressed key stands: here it is made of
keys before any turn, and stands where the last token of its block does.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..mup import query_scale
from ..param import declare, normal
from ..positions import POSITIONS, Position
from . import State, attention, cache
from .cache import Slots

BRANCHES = ("compressed", "selected", "window")
PARTS = ("last", *BRANCHES)  # of the state; the last are those not compressed
ALWAYS = 3  # selected blocks: a document's first, a token's own, the one before


@dataclasses.dataclass(frozen=True)
class Options(attention.OfScores):
  # For rows of some hundred tokens; the paper's are 32, 16, 64, 16 and 512.
  block: int = 4  # l, tokens that become one
  stride: int = 4  # d, tokens from one such block to the next
  select_block: int = 16  # l', tokens of a block that is selected
  n_selected: int = 8  # n, blocks; the first one and the last two among them
  window: int = 128  # tokens that one sees, itself among them

  def __post_init__(self):
    super().__post_init__()
    for key in ("block", "stride", "select_block", "window"):
      if getattr(self, key) < 1:
        raise UserError(f"{key}={getattr(self, key)} must be at least 1")
    for key in ("block", "select_block"):
      if getattr(self, key) % self.stride:
        raise UserError(
          f"{key}={getattr(self, key)} is not a multiple of"
          f" stride={self.stride}; use a stride that divides it"
        )
    if self.n_selected < ALWAYS:
      raise UserError(
        f"n_selected={self.n_selected} must be at least {ALWAYS}: the first"
        " block and the last two are always selected"
      )


class Compress(nn.Module):
  """phi of equation 7: one key, or value, of each block of Q tokens."""

  config: ModelConfig
  to_branch: bool = False

  @nn.compact
  def __call__(
    self, x_BCQKH: Float[Array, "B C Q K H"]
  ) -> Float[Array, "B C K H"]:
    c = self.config
    Q, H = x_BCQKH.shape[2], c.head_dim
    init = normal(c.init_scale * H**-0.5)
    axes, roles = ("positions", "head_dim"), ("in", "out")
    place_QH = declare(self, "place", init, (Q, H), axes, c.param_dtype, roles)
    x_BCQKH = x_BCQKH + place_QH[:, None].astype(x_BCQKH.dtype)

    project = functools.partial(Projection, c, to_branch=self.to_branch)
    axes = ("positions", "head_dim", "latent")
    up = project("BCQKH,QHF->BCKF", (Q, H, H), axes, name="up")
    axes = ("latent", "head_dim")
    down = project("BCKF,FH->BCKH", (H, H), axes, name="down")
    return down(nn.gelu(up(x_BCQKH)))


class Branch(attention.Attention):
  """Softmax attention of given queries, with sinks of its own if asked for."""

  word = "native_sparse"
  option_type = Options

  @nn.compact
  def look(self, *given: Any, **more: Any) -> Float[Array, "B T N V"]:
    return self.attend(*given, **more)


class NativeSparse(attention.Attention):
  """sum of gate * attention over three sets of keys and values; equation 5.

  They are compressed blocks, the tokens of the blocks to which the weights of
  the compressed ones point, and a window. Each has projections of its own, and
  the queries are the same. Blocks are those of the document.

  The decode state holds the compressed blocks, the tokens that the next of them
  needs, all tokens that may be selected, and the window.
  """

  word = "native_sparse"
  option_type = Options

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    o = self.options(c)
    D, N, K, H = c.d_model, c.n_heads, c.n_kv_heads, c.head_dim
    if not ctx.causal:
      raise UserError(
        f"model.mixer={self.word!r} selects among blocks before a token, and"
        " this objective looks ahead too; choose model.mixer='attention'"
      )

    def project(name, letter, n, axis, **more):
      spec, axes = f"BTD,D{letter}H->BT{letter}H", ("embed", axis, "head_dim")
      y = Projection(c, spec, (D, n, H), axes, name=name, **more)(x_BTD)
      return constrain(y, "batch", "seq", axis, "head_dim")

    q_BTNH = project("q", "N", N, "heads")
    if (scale := query_scale(c, bool(o.scale))) != 1:
      q_BTNH *= scale
    new = {
      branch: {
        "k": project(f"{branch}_k", "K", K, "kv_heads"),
        "v": project(f"{branch}_v", "K", K, "kv_heads", to_branch=True),
      }
      for branch in BRANCHES
    }
    position = POSITIONS[self.position_word(c)](c, name="position")
    if not position.raw_keys:
      for branch in BRANCHES[1:]:
        new[branch]["k"] = self.turn(position, new[branch]["k"], ctx)
    (blocks, tokens, near), state = self.recall(position, state, new, ctx)

    compressed, selected, window = (Branch(c, name=name) for name in BRANCHES)
    past = {
      "causal": False,
      "mask": Pairs(_is_past, (ctx.positions_BT,), (blocks.positions_BS,)),
      "reach": blocks.positions_BS.shape[1] * o.stride,
    }
    # Equations 8 and 9: weights are added up as values would be, and what a
    # weight of a compressed block adds is where that lies.
    q, pointers = jax.lax.stop_gradient((q_BTNH, _pointers(blocks, K, o)))
    weights_BTNJ = compressed.look(position, q, ctx, pointers, **past)
    chosen = _chosen(weights_BTNJ, K, ctx.positions_BT, tokens.positions_BS, o)
    found = (
      compressed.look(position, q_BTNH, ctx, blocks, **past),
      selected.look(position, q_BTNH, ctx, tokens, mask=chosen),
      window.look(position, q_BTNH, ctx, near, window=o.window),
    )
    axes = ("embed", "latent", "heads")
    gate = Projection(c, "BTD,DIN->BTIN", (D, 3, N), axes, name="gate")
    # fp32: the three are added up before they are rounded.
    gate_BTIN1 = nn.sigmoid(gate(x_BTD).astype(jnp.float32))[..., None]
    one, two, three = (gate_BTIN1[:, :, i] * y for i, y in enumerate(found))
    spec, axes = "BTNH,NHD->BTD", ("heads", "head_dim", "embed")
    out = Projection(c, spec, (N, H, D), axes, to_residual=True, name="o")
    return out((one + two + three).astype(x_BTD.dtype)), state

  def recall(
    self,
    position: Position,
    state: State | None,
    new: dict[str, dict[str, Array]],
    ctx: Context,
  ) -> tuple[tuple[Slots, Slots, Slots], State | None]:
    """What each branch looks at, and the state after the chunk."""
    empty = self.init_state(self.config, ctx.positions_BT.shape[0], 0)
    before = (state or empty)["last"]
    last, kept_last = cache.slide(before, new["compressed"], ctx)
    if state is None:
      blocks = _slots(self.compress(position, last, 0, ctx))
      tokens = cache.only_chunk(new["selected"], ctx)
      return (blocks, tokens, cache.only_chunk(new["window"], ctx)), None
    tokens, kept_tokens = cache.append(state["selected"], new["selected"], ctx)
    near, kept_near = cache.slide(state["window"], new["window"], ctx)
    fresh = self.compress(position, last, tokens.offset, ctx)
    first = tokens.offset // self.options(self.config).stride

    def put(old, new):
      old_here = jax.lax.dynamic_slice_in_dim(old, first, new.shape[1], axis=1)
      is_new = jnp.expand_dims(fresh["segments"] != 0, range(2, new.ndim))
      here = jnp.where(is_new, new.astype(old.dtype), old_here)
      return jax.lax.dynamic_update_slice_in_dim(old, here, first, axis=1)

    blocks = jax.tree.map(put, state["compressed"], fresh)
    kept = (kept_last, blocks, kept_tokens, kept_near)
    state = dict(zip(PARTS, kept, strict=True))
    return (_slots(blocks), tokens, near), state

  def compress(
    self, position: Position, last: Slots, start: Any, ctx: Context
  ) -> dict[str, Array]:
    """The blocks that end in the chunk, as slots of a cache.

    That which ends at the slot s has the place s // stride, counted from the
    place of `start`, the chunk's first slot. It is there alone: ends are at
    least a stride apart, in a document and from one to the next.
    """
    c = self.config
    o = self.options(c)
    B, T = ctx.positions_BT.shape
    segments_BT, count_BT = cache.segments_of(ctx), ctx.positions_BT + 1
    ends_BT = (segments_BT != 0) & (count_BT >= o.block)
    ends_BT = ends_BT & (count_BT % o.stride == 0)
    place_T = (start + jnp.arange(T)) // o.stride - start // o.stride
    end_BT = jnp.where(ends_BT, jnp.arange(T), -1)
    n_places = (T + 2 * o.stride - 2) // o.stride
    end_BC = jnp.full((B, n_places), -1).at[:, place_T].max(end_BT)
    some_BC = jnp.maximum(end_BC, 0)

    def at_end(a_BT):
      return jnp.where(end_BC < 0, 0, jnp.take_along_axis(a_BT, some_BC, 1))

    # Before the chunk stand block - 1 slots: what ends at t begins there at t.
    slot_BCQ = some_BC[..., None] + jnp.arange(o.block)
    made = {}
    for name, a_BSKH in last.arrays.items():
      blocks_BCQKH = jax.vmap(lambda a, i: a[i])(a_BSKH, slot_BCQ)
      phi = Compress(c, to_branch=name == "v", name=f"compress_{name}")
      made[name] = phi(blocks_BCQKH)
    positions_BC, segments_BC = at_end(ctx.positions_BT), at_end(segments_BT)
    if not position.raw_keys:
      lengths_BC = attention.lengths(position, segments_BC, ctx)
      made["k"] = position.rotate(made["k"], positions_BC, lengths_BC)
    return {**made, "segments": segments_BC, "positions": positions_BC}

  @classmethod
  def parts(cls, config: ModelConfig, max_len: int) -> dict[str, int]:
    """Slots of each part of the state."""
    o = cls.options(config)
    # The last chunk may touch a place more than there are blocks.
    blocks, window = max_len // o.stride + 2, min(o.window, max_len)
    sizes = (o.block - 1, blocks, max_len, window)
    return dict(zip(PARTS, sizes, strict=True))

  @classmethod
  def init_state(cls, config, batch, max_len):
    shapes, dtype = cls.slot_shapes(config), config.compute_dtype
    parts = cls.parts(config, max_len).items()
    state = {name: cache.init(shapes, dtype, batch, n) for name, n in parts}
    state["selected"]["next"] = jnp.zeros((), jnp.int32)
    return state

  @classmethod
  def slots(cls, config, max_len):
    return sum(cls.parts(config, max_len).values())


def _slots(blocks: dict[str, Array]) -> Slots:
  arrays = {"k": blocks["k"], "v": blocks["v"]}
  return Slots(arrays, blocks["positions"], blocks["segments"], 0)


def _is_past(q, k, shared):
  """Blocks that end with the query's token or before it."""
  del shared
  (q_BT,), (end_BS,) = q, k
  return (end_BS[:, None, :] <= q_BT[:, :, None])[:, None]


def _pointers(blocks: Slots, K: int, o: Options) -> Slots:
  """Compressed blocks whose values are their tokens in each selection block.

  Over the stride that is how often equation 9 counts a block, if blocks are
  counted from 1 as tokens are.
  """
  end_BC1 = blocks.positions_BS[..., None] + 1
  J = -(-end_BC1.shape[1] * o.stride // o.select_block)
  start_J = jnp.arange(J) * o.select_block
  first_BCJ = jnp.maximum(end_BC1 - o.block, start_J)
  after_BCJ = jnp.minimum(end_BC1, start_J + o.select_block)
  # fp32: in bf16 near scores would be equal.
  inside_BCJ = jnp.maximum(after_BCJ - first_BCJ, 0).astype(jnp.float32)
  v_BCKJ = jnp.repeat(inside_BCJ[:, :, None] / o.stride, K, axis=2)
  return blocks._replace(arrays={**blocks.arrays, "v": v_BCKJ})


def _chosen(
  weights_BTNJ: Float[Array, "B T N J"],
  K: int,
  q_positions_BT: Int[Array, "B T"],
  k_positions_BS: Int[Array, "B S"],
  o: Options,
) -> Pairs:
  """The mask of tokens in the top blocks of each group; equations 10 to 12."""
  B, T, N, J = weights_BTNJ.shape
  score_BTKJ = weights_BTNJ.reshape(B, T, K, N // K, J).sum(3)
  own_BT11 = (q_positions_BT // o.select_block)[..., None, None]
  j = jnp.arange(J)
  always = (j == 0) | (j == own_BT11) | (j == own_BT11 - 1)
  score_BTKJ = jnp.where(always, jnp.inf, score_BTKJ)
  score_BTKJ = jnp.where(j <= own_BT11, score_BTKJ, -jnp.inf)
  top_BTKn, block_BTKn = jax.lax.top_k(score_BTKJ, min(o.n_selected, J))
  block_BTKn = jnp.where(top_BTKn > -jnp.inf, block_BTKn, -1)

  def seen(q, k, shared):
    del shared
    (block_BTKn,), (block_BS,) = q, k
    same_BTKnS = block_BTKn[..., None] == block_BS[:, None, None, None, :]
    seen_BKTS = jnp.moveaxis(same_BTKnS.any(3), 1, 2)
    return jnp.repeat(seen_BKTS, N // K, axis=1)

  of_keys = (k_positions_BS // o.select_block,)
  return Pairs(seen, (block_BTKn,), of_keys, seen=o.n_selected * o.select_block)
