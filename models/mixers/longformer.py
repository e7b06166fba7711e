"""Longformer: window and global tokens (Beltagy et al. 2020, arXiv:2004.05150).

The paper's is bidirectional, with projections of their own for global tokens;
here a causal model has one set, and the first tokens of a document are global.
"""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  window: int = 128  # tokens that one sees, itself among them
  n_global: int = 4  # tokens at the beginning of a document that all see
  dilation: int = 1  # the window of the heads' second half has every d-th token

  def __post_init__(self):
    super().__post_init__()
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

  def mask(self, ctx, slots):
    o, N = self.options(self.config), self.config.n_heads
    step_N = jnp.where(jnp.arange(N) < -(-N // 2), 1, o.dilation)
    if o.dilation == 1:
      step_N = jnp.ones((1,), jnp.int32)
    shared = (jnp.asarray(o.window), jnp.asarray(o.n_global), step_N)
    keys, seen = (slots.positions_BS,), o.window + o.n_global
    return Pairs(_seen, (ctx.positions_BT,), keys, shared, seen)
