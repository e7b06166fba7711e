"""Native sparse attention (Yuan et al. 2025, arXiv:2502.11089).

Three attentions of one query, each with keys and values of its own, added up
by gates (equation 5): to compressed blocks, to the tokens of the blocks that
the compressed ones point at, and to a window.

Where it differs from the paper: selected blocks are a mask of the common kernel
and are not gathered, so that tiles which no query sees are skipped, and
decoding still reads every token's scores; a gate is a sigmoid of a linear map;
the compressing MLP has one hidden layer of H and is the same for all heads. The
paper leaves open where a compressed key stands: here it is made of keys before
any turn, and then stands where the last token of its block does.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ...parallel.rules import constrain
from ..context import Context
from ..linear import Projection
from ..mup import query_scale
from ..param import declare, normal
from ..positions import POSITIONS, Position
from . import State, attention, cache
from .cache import Slots

BRANCHES = ("compressed", "selected", "window")
ALWAYS = 3  # selected blocks: the document's first, and the last two


@dataclasses.dataclass(frozen=True)
class Options(attention.OfScores):
  # For rows of some hundred tokens; the paper's are 32, 16, 64, 16 and 512.
  block: int = 4  # l, tokens of a compressed block
  stride: int = 4  # d, tokens from one compressed block to the next
  select_block: int = 16  # l', tokens of a block that is selected
  n_selected: int = 8  # n, blocks; the first one and the last two among them
  window: int = 128  # w, tokens that one sees, itself among them

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
    if self.select_block < self.block:
      raise UserError(
        f"select_block={self.select_block} must be at least block={self.block};"
        " raise it, or lower block"
      )
    if self.n_selected < ALWAYS:
      raise UserError(
        f"n_selected={self.n_selected} must be at least {ALWAYS}: the first"
        " block and the last two are always selected"
      )


class Branch(attention.Attention):
  """One attention, with sinks of its own where they are asked for."""

  word = "native_sparse"
  option_type = Options

  @nn.compact
  def look(
    self,
    position: Position,
    q_BTNH: Array,
    ctx: Context,
    slots: Slots,
    **more: object,
  ) -> Float[Array, "B T N V"]:
    return self.attend(position, q_BTNH, ctx, slots, **more)


class NativeSparse(attention.Attention):
  """Gated sum of three attentions; equations 5 to 12.

  Blocks are those of the document. C counts compressed blocks: that which ends
  at a slot s has the place s // stride, and there is never another, since a
  document begins with a whole block.

  The decode state holds the compressed blocks, the block - 1 tokens that the
  next ones need, all tokens of the selecting branch and the window's.
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
        f"model.mixer={self.word!r} selects among the blocks before a token,"
        " and this objective looks ahead too; choose model.mixer='attention'"
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
    axes = ("embed", "heads", "latent")
    gate = Projection(c, "BTD,DNI->BTNI", (D, N, 3), axes, name="gate")
    # fp32: a gate near 1 has few bits of bf16 left.
    gate_BTNI = nn.sigmoid(gate(x_BTD).astype(jnp.float32))

    position = POSITIONS[self.position_word(c)](c, name="position")
    for branch in () if position.raw_keys else ("selected", "window"):
      new[branch]["k"] = self.turn(position, new[branch]["k"], ctx)
    blocks, all_slots, near, state = self.recall(position, state, new, ctx)
    compressed_BTNH, chosen_BTKn = self.compressed(
      position, q_BTNH, ctx, blocks
    )
    is_chosen = Pairs(
      _is_chosen,
      (chosen_BTKn,),
      (all_slots.positions_BS // o.select_block,),
      (jnp.zeros((N // K,), bool),),
      o.n_selected * o.select_block,
    )
    look = [Branch(c, name=branch).look for branch in BRANCHES[1:]]
    selected = look[0](position, q_BTNH, ctx, all_slots, mask=is_chosen)
    window = look[1](position, q_BTNH, ctx, near, window=o.window)
    found = jnp.stack([compressed_BTNH, selected, window], axis=-1)
    o_BTNH = (found * gate_BTNI[..., None, :]).sum(-1).astype(x_BTD.dtype)
    out = Projection(
      c,
      "BTNH,NHD->BTD",
      (N, H, D),
      ("heads", "head_dim", "embed"),
      to_residual=True,
      name="o",
    )
    return out(o_BTNH), state

  def compressed(
    self, position: Position, q_BTNH: Array, ctx: Context, blocks: Slots
  ) -> tuple[Array, Array]:
    """Attention to compressed blocks, and what it selects: [B, T, K, n].

    Its weights, summed up over each selected block and over the heads of a
    group, are one more attention, whose values say which compressed block
    lies where.
    """
    o, K = self.options(self.config), self.config.n_kv_heads
    T, N = q_BTNH.shape[1:3]
    C = blocks.positions_BS.shape[1]
    branch = Branch(self.config, name="compressed")
    more = {
      "mask": Pairs(_is_past, (ctx.positions_BT,), (blocks.positions_BS,)),
      "causal": False,
      "reach": C * o.stride,
    }
    out_BTNH = branch.look(position, q_BTNH, ctx, blocks, **more)
    overlap_BCJ = overlaps(blocks.positions_BS, -(-C * o.stride), o)
    return out_BTNH, overlap_BCJ
