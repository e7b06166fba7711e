"""What forms by chunks share: decays within a chunk, and their pairs.

Within a chunk of C tokens the log decays are added up, G_t = g_1 + ... + g_t,
and what token s left has at t decayed by exp(G_t - G_s), never more than 1.
Taken apart as exp(G_t) exp(-G_s) the second factor may overflow; so channels
that have decays of their own are paired in blocks, each relative to the sums at
its beginning (secondary chunking; Yang et al. 2023, arXiv:2312.06635). Where no
decay of a chunk is so strong, as in RWKV-7, one product gives all its pairs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..by_chunks import by_chunks
from . import FLOOR

BLOCK = 16  # tokens that are paired one by one where each channel has a decay
# Sums of logs whose exponential, either way, leaves fp32 room for a product.
APART = -60.0


class Decays(NamedTuple):
  """Of a chunk.

  Attributes:
    after_BNCX: G_t, with the token's own decay.
    before_BNCX: G_t - g_t: up to the token, and not with it.
    document_BC: how many documents have begun in the chunk.
    apart: whether exp(-G_t) is finite for certain.
  """

  after_BNCX: Float[Array, "B N C X"]
  before_BNCX: Float[Array, "B N C X"]
  document_BC: Int[Array, "B C"]
  apart: bool

  @classmethod
  def of(
    cls,
    g_BNCX: Float[Array, "B N C X"],
    starts_BC: Bool[Array, "B C"],
    least: float = FLOOR,
  ) -> "Decays":
    """Of log decays of which none is less than `least`."""
    apart = least * g_BNCX.shape[2] >= APART
    g_BNCX = jnp.maximum(g_BNCX, FLOOR)
    after_BNCX = jnp.cumsum(g_BNCX, axis=2)
    document_BC = jnp.cumsum(starts_BC, axis=1, dtype=jnp.int32)
    return cls(after_BNCX, after_BNCX - g_BNCX, document_BC, apart)

  def of_state(
    self, sums_BNCX: Float[Array, "B N C X"]
  ) -> Float[Array, "B N C X"]:
    """What is left, at each token, of the state before the chunk."""
    goes_on_BC = self.document_BC == 0
    return jnp.where(goes_on_BC[:, None, :, None], jnp.exp(sums_BNCX), 0)

  def to_end(self) -> Float[Array, "B N C X"]:
    """What is left of each token at the end of the chunk."""
    left_BNCX = jnp.exp(self.after_BNCX[:, :, -1:] - self.after_BNCX)
    stays_BC = self.document_BC == self.document_BC[:, -1:]
    return jnp.where(stays_BC[:, None, :, None], left_BNCX, 0)

  def pairs(
    self,
    x_BGCK: Float[Array, "B G C K"],
    y_BGCK: Float[Array, "B G C K"],
    own: bool,
  ) -> Float[Array, "B N C C"]:
    """sum_k x_t y_s, decayed from s to t, for s before t.

    Args:
      own: with the token's own decay, and with s = t; else without both.
    """
    sums_BNCX = self.after_BNCX if own else self.before_BNCX
    C = sums_BNCX.shape[2]
    seen_BCC = jnp.tril(jnp.ones((C, C), bool), 0 if own else -1)
    seen_BCC &= self.document_BC[:, :, None] == self.document_BC[:, None]
    if sums_BNCX.shape[-1] > 1 and self.apart:
      x_BNCK, y_BNCK = (
        a_BNCK * jnp.exp(sums)
        for a_BNCK, sums in ((x_BGCK, sums_BNCX), (y_BGCK, -self.after_BNCX))
      )
      A_BNCC = jnp.einsum("BNCK,BNSK->BNCS", x_BNCK, y_BNCK)
      return jnp.where(seen_BCC[:, None], A_BNCC, 0)
    if sums_BNCX.shape[-1] > 1:
      A_BNCC = _by_channel(x_BGCK, y_BGCK, sums_BNCX, self.after_BNCX, own)
      return jnp.where(seen_BCC[:, None], A_BNCC, 0)
    ago_BNCC = sums_BNCX - jnp.swapaxes(self.after_BNCX, 2, 3)
    ago_BNCC = jnp.where(seen_BCC[:, None], ago_BNCC, -jnp.inf)
    product_BGCC = jnp.einsum("BGCK,BGSK->BGCS", x_BGCK, y_BGCK)
    share = ago_BNCC.shape[1] // product_BGCC.shape[1]
    return jnp.repeat(product_BGCC, share, axis=1) * jnp.exp(ago_BNCC)


def _by_channel(x_BNCK, y_BNCK, to_BNCK, of_BNCK, own):
  """As `pairs`, a decay for each channel; only pairs with s before t count."""
  B, N, C, K = to_BNCK.shape
  n = min(BLOCK, C)
  blocks = -(-C // n)
  pad = ((0, 0), (0, 0), (0, blocks * n - C), (0, 0))

  def cut(a_BNCK):  # [B, N, blocks, n, K]
    return jnp.pad(a_BNCK, pad).reshape(B, N, blocks, n, K)

  x, y, to, of = map(cut, (x_BNCK, y_BNCK, to_BNCK, of_BNCK))
  # A pair of one block, by itself.
  ago = to[..., :, None, :] - of[..., None, :, :]
  near = jnp.tril(jnp.ones((n, n), bool), 0 if own else -1)[..., None]
  decay = jnp.exp(jnp.where(near, ago, -jnp.inf))
  A_near = jnp.einsum("BNitK,BNisK,BNitsK->BNits", x, y, decay)
  if blocks == 1:
    return A_near[:, :, 0, :C, :C]
  # Of other blocks, by way of the sums before the first token of t's block.
  first = jnp.pad(of[:, :, :-1, -1:], ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))
  ago = to - first  # at most 0, but where zeros fill the last block
  # A minimum would have half of the gradient where no token between decays.
  x_first = x * jnp.exp(jnp.where(ago > 0, 0, ago))
  earlier = jnp.arange(C)[None, :] < n * jnp.arange(blocks)[:, None]
  ago = first - of_BNCK[:, :, None]  # [B, N, blocks, C, K]
  y_first = y_BNCK[:, :, None] * jnp.exp(
    jnp.where(earlier[..., None], ago, -jnp.inf)
  )
  A = jnp.einsum("BNitK,BNisK->BNits", x_first, y_first)
  A = jnp.pad(A, ((0, 0), (0, 0), (0, 0), (0, 0), (0, blocks * n - C)))
  A = A.reshape(B, N, blocks, n, blocks, n)
  same = jnp.arange(blocks)
  A = A.at[:, :, same, :, same].add(jnp.moveaxis(A_near, 2, 0))
  return A.reshape(B, N, blocks * n, blocks * n)[:, :, :C, :C]


def over_chunks(
  of_chunk: Callable[..., tuple[Any, Any]],
  arrays: tuple[Array, ...],
  starts_BT: Bool[Array, "B T"],
  state_BNKV: Float[Array, "B N K V"],
  chunk: int,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
  """`o_BNCV, state = of_chunk(state, arrays_BNCX, starts_BC)` along a row.

  Args:
    arrays: [B, T, N, X] each.
  """

  def body(state_BNKV, chunk):
    *arrays_BCNX, starts_BC = chunk
    arrays_BNCX = [jnp.swapaxes(a, 1, 2) for a in arrays_BCNX]
    o_BNCV, state_BNKV = of_chunk(state_BNKV, arrays_BNCX, starts_BC)
    return state_BNKV, jnp.swapaxes(o_BNCV, 1, 2)

  return by_chunks(body, state_BNKV, (*arrays, starts_BT), chunk)
