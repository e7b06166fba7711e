"""BigBird's sparse attention (Zaheer et al. 2020, arXiv:2007.14062).

The window, global blocks and random ones. The paper's is bidirectional; here a
causal model draws its random blocks among those before, and the first blocks of
a document are the global ones.
"""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ..context import hash32
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  block: int = 16  # tokens
  window: int = 3  # blocks, its own among them
  n_global: int = 1  # blocks at the beginning of a document that all see
  n_random: int = 1  # draws among the blocks before, of each block and head

  def __post_init__(self):
    super().__post_init__()
    if self.block < 1 or self.window < 1:
      raise UserError(
        f"block={self.block} and window={self.window} must be at least 1"
      )
    if self.n_global < 0 or self.n_random < 0:
      raise UserError(
        f"n_global={self.n_global} and n_random={self.n_random} must be at"
        " least 0"
      )


def _seen(q, k, shared):
  (q_BT,), (k_BS,), (block, window, n_global, layer, draws, heads_N) = (
    q,
    k,
    shared,
  )
  q_BT, k_BS = q_BT // block, k_BS // block
  q_BT1, k_B1S = q_BT[:, :, None], k_BS[:, None, :]
  near = jnp.abs(q_BT1 - k_B1S) < window
  seen = (near | (k_B1S < n_global) | (q_BT1 < n_global))[:, None]
  for draw in draws:
    # Of each head, block and layer: the same in training and in decoding.
    bits_N = hash32(heads_N ^ hash32(layer * jnp.uint32(64) + draw))
    bits_BNT = hash32(bits_N[:, None] + q_BT[:, None].astype(jnp.uint32))
    n_BNT = jnp.maximum(q_BT[:, None], 1).astype(jnp.uint32)
    drawn_BNT = (bits_BNT % n_BNT).astype(jnp.int32)
    seen = seen | (drawn_BNT[..., None] == k_B1S[:, None])
  return seen


class BigBird(attention.Attention):
  """Blocks of the window, the first ones, and some drawn among those before.

  Blocks are those of the document.
  """

  word = "bigbird"
  option_type = Options

  def mask(self, ctx, slots):
    o = self.options(self.config)
    shared = (
      *(jnp.asarray(n) for n in (o.block, o.window, o.n_global)),
      jnp.asarray(ctx.layer).astype(jnp.uint32),
      tuple(jnp.asarray(i, jnp.uint32) for i in range(o.n_random)),
      jnp.arange(self.config.n_heads, dtype=jnp.uint32),
    )
    keys = (slots.positions_BS,)
    seen = o.block * (o.window + o.n_global + o.n_random)
    return Pairs(_seen, (ctx.positions_BT,), keys, shared, seen)
