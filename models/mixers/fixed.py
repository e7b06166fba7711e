"""Fixed sparse attention (Child et al. 2019, arXiv:1904.10509)."""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  stride: int = 64  # l, tokens of a block
  summary: int = 8  # c, the last tokens of each block, which all later ones see

  def __post_init__(self):
    super().__post_init__()
    if self.stride < 2:
      raise UserError(f"stride={self.stride} must be at least 2")
    if not 1 <= self.summary < self.stride:
      raise UserError(
        f"summary={self.summary} must be from 1 to below stride={self.stride}"
      )


def _fixed(q, k, shared):
  (q_BT,), (k_BS,), (stride, summary) = q, k, shared
  q_BT1, k_B1S = q_BT[:, :, None], k_BS[:, None, :]
  same = q_BT1 // stride == k_B1S // stride
  return (same | (k_B1S % stride >= stride - summary))[:, None]


class Fixed(attention.Attention):
  """A token's own block, and the last `summary` tokens of each; section 4.3.

  Blocks are those of the document. One head has both kinds.
  """

  word = "fixed"
  option_type = Options

  def mask(self, ctx, slots):
    o = self.options(self.config)
    shared = (jnp.asarray(o.stride), jnp.asarray(o.summary))
    keys = (slots.positions_BS,)
    seen = o.stride + o.summary * (keys[0].shape[1] // o.stride)
    return Pairs(_fixed, (ctx.positions_BT,), keys, shared, seen)
