"""The inner loop of TTT-Linear by chunks, in its dual form.

Within a mini-batch x W_t = x U - share_t sum_s rate_s (x . k_s) g_s, with g the
gradients of x U: weights of single tokens are never made (Sun et al. 2024,
arXiv:2407.04620; section 2.5).

Mini-batches begin with their document, and chunks anywhere. But a chunk has no
more tokens than a mini-batch, so that one of its tokens is either

    old: of the mini-batch that the chunk came with,
    next: of the one after it, in the same document; there is no third,
    new: of a document that begins in the chunk, and still in its first.

Old gradients come first; they give the weights of the next mini-batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..by_chunks import by_chunks
from . import EPS, Learner, State


def _standard(
  z_BNCV: Float[Array, "B N C V"],
) -> tuple[Float[Array, "B N C V"], Float[Array, "B N C 1"]]:
  """z with mean 0 and variance 1, and what it was multiplied by."""
  z_BNCV -= z_BNCV.mean(-1, keepdims=True)
  by = jax.lax.rsqrt(jnp.square(z_BNCV).mean(-1, keepdims=True) + EPS)
  return z_BNCV * by, by


def _gradient(
  z_BNCV: Float[Array, "B N C V"],
  v_BNCV: Float[Array, "B N C V"],
  scale_N1V: Float[Array, "N 1 V"],
  bias_N1V: Float[Array, "N 1 V"],
) -> Float[Array, "B N C V"]:
  """Of |LN(z) - v|^2 / 2, by z."""
  y, by = _standard(z_BNCV)
  g = (y * scale_N1V + bias_N1V - v_BNCV) * scale_N1V
  g -= g.mean(-1, keepdims=True) + y * (g * y).mean(-1, keepdims=True)
  return g * by


def _shares(
  batch_BC: Int[Array, "B C"], share_BC: Float[Array, "B C"]
) -> Float[Array, "B C C"]:
  """What a query has of each gradient of its mini-batch, up to its own."""
  C = batch_BC.shape[1]
  seen_BCC = batch_BC[:, :, None] == batch_BC[:, None]
  seen_BCC &= jnp.tril(jnp.ones((C, C), bool))
  return jnp.where(seen_BCC, share_BC[:, :, None], 0)


@jax.named_scope("ttt")
def ttt(
  q_BTNK: Float[Array, "B T N K"],
  k_BTNK: Float[Array, "B T N K"],
  v_BTNV: Float[Array, "B T N V"],
  rate_BTN: Float[Array, "B T N"],
  place_BT: Int[Array, "B T"],
  starts_BT: Bool[Array, "B T"],
  learner: Learner,
  state: State,
  *,
  chunk: int | None = None,
) -> tuple[Float[Array, "B T N V"], State]:
  """As the reference, `chunk` tokens at a time (None: Q, and never more)."""
  Q = learner.share_Q.shape[0]
  last = learner.share_Q[-1]
  scale_N1V, bias_N1V = learner.scale_NV[:, None], learner.bias_NV[:, None]

  def body(state, arrays):
    moved_BNKV, sum_BNKV = state
    q_BNCK, k_BNCK, v_BNCV, rate_BNC = (
      jnp.swapaxes(a, 1, 2) for a in arrays[:4]
    )
    share_BC, first_BC, starts_BC = arrays[4:]
    C = share_BC.shape[1]
    batch_BC = jnp.cumsum(first_BC, axis=1, dtype=jnp.int32)
    old_BC = batch_BC == 0
    goes_on_BC = jnp.cumsum(starts_BC, axis=1, dtype=jnp.int32) == 0
    next_BC = goes_on_BC & ~old_BC

    x_BNXK = jnp.concatenate([k_BNCK, q_BNCK], axis=2)  # X = 2 C
    goes_on_BX = jnp.tile(goes_on_BC, 2)[:, None, :, None]
    z_BNXV = x_BNXK @ learner.weights_NKV
    z_BNXV += jnp.where(goes_on_BX, x_BNXK @ moved_BNKV, 0)
    summed_BNXV = x_BNXK @ sum_BNKV
    product_BNXC = x_BNXK @ jnp.swapaxes(k_BNCK, 2, 3)

    def written(z_BNCV, of_BC):  # rate times gradient, of some tokens
      g_BNCV = _gradient(z_BNCV, v_BNCV, scale_N1V, bias_N1V)
      g_BNCV *= rate_BNC[..., None]
      return jnp.where(of_BC[:, None, :, None], g_BNCV, 0)

    z_BNCV = z_BNXV[:, :, :C]
    old_BNCV = written(z_BNCV, old_BC)
    ended_BNCV = summed_BNXV[:, :, :C] + product_BNXC[:, :, :C] @ old_BNCV
    z_BNCV -= jnp.where(next_BC[:, None, :, None], last * ended_BNCV, 0)
    later_BNCV = written(z_BNCV, ~old_BC)
    all_BNCV = old_BNCV + later_BNCV

    z_BNCV = z_BNXV[:, :, C:]
    of_sum_BC = jnp.where(old_BC, share_BC, jnp.where(next_BC, last, 0))
    of_BCC = _shares(batch_BC, share_BC)
    of_BCC += last * (next_BC[:, :, None] & old_BC[:, None])
    z_BNCV -= of_sum_BC[:, None, :, None] * summed_BNXV[:, :, C:]
    z_BNCV -= (of_BCC[:, None] * product_BNXC[:, :, C:]) @ all_BNCV
    o_BNCV = _standard(z_BNCV)[0] * scale_N1V + bias_N1V

    k_BNKC = jnp.swapaxes(k_BNCK, 2, 3)
    is_old, is_next, goes_on = (
      a_BC[:, -1, None, None, None] for a_BC in (old_BC, next_BC, goes_on_BC)
    )
    ended_BNKV = sum_BNKV + k_BNKC @ old_BNCV
    moved_BNKV = jnp.where(goes_on, moved_BNKV, 0)
    moved_BNKV -= jnp.where(is_next, last * ended_BNKV, 0)
    in_last_BC = batch_BC == batch_BC[:, -1:]
    later_BNCV = jnp.where(in_last_BC[:, None, :, None], later_BNCV, 0)
    sum_BNKV = jnp.where(is_old, ended_BNKV, k_BNKC @ later_BNCV)
    return State(moved_BNKV, sum_BNKV), jnp.swapaxes(o_BNCV, 1, 2)

  # A last chunk that is not full goes on with its mini-batch, at a rate of 0.
  first_BT = (place_BT == 0) | starts_BT
  arrays = (q_BTNK, k_BTNK, v_BTNV, rate_BTN, learner.share_Q[place_BT])
  C = Q if chunk is None else min(chunk, Q)
  return by_chunks(body, state, (*arrays, first_BT, starts_BT), C)
