"""Strided sparse attention (Child et al. 2019, arXiv:1904.10509)."""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  stride: int = 64  # l: tokens before it, and the step of those further back
  split: bool = False  # even heads have the tokens before, odd ones the steps

  def __post_init__(self):
    super().__post_init__()
    if self.stride < 2:
      raise UserError(
        f"stride={self.stride} must be at least 2, or all is seen"
      )


def _near_and_steps(q, k, shared):
  (q_BT,), (k_BS,), (stride,) = q, k, shared
  ago_BTS = q_BT[:, :, None] - k_BS[:, None, :]
  return jnp.abs(ago_BTS) <= stride, ago_BTS % stride == 0


def _merged(q, k, shared):
  near_BTS, step_BTS = _near_and_steps(q, k, shared)
  return (near_BTS | step_BTS)[:, None]


def _split(q, k, shared):
  *shared, odd_N = shared
  near_BTS, step_BTS = _near_and_steps(q, k, shared)
  odd_N11 = odd_N[:, None, None]
  return jnp.where(odd_N11, step_BTS[:, None], near_BTS[:, None])


class Strided(attention.Attention):
  """The `stride` tokens before, then each `stride`-th of the rest; section 4.3.

  Distances are within the document. One head has both kinds ("merged"), or
  heads take turns (`split`).
  """

  word = "strided"
  option_type = Options

  def mask(self, ctx, slots):
    o = self.options(self.config)
    shared = (jnp.asarray(o.stride),)
    if o.split:
      shared += (jnp.arange(self.config.n_heads) % 2 == 1,)
    keys = (slots.positions_BS,)
    seen = o.stride + keys[0].shape[1] // o.stride
    return Pairs(
      _split if o.split else _merged,
      (ctx.positions_BT,),
      keys,
      shared,
      seen // 2 if o.split else seen,
    )
