"""Long convolutions as sums over all pairs of slots: the oracle."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def long_conv(
  u_BSE: Float[Array, "B S E"],
  h_LE: Float[Array, "L E"],
  starts_BS: Bool[Array, "B S"] | None = None,
  offset: int | Int[Array, ""] = 0,
  length: int = 0,
) -> Float[Array, "B T E"]:
  """One filter for each channel."""
  T = length or u_BSE.shape[1]
  h_TSE, seen_BTS = _of_pairs(h_LE, starts_BS, u_BSE, offset, T)
  u_BSE = u_BSE.astype(jnp.float32)
  return jnp.einsum("TSE,BTS,BSE->BTE", h_TSE, seen_BTS, u_BSE)


def head_conv(
  q_BTNK: Float[Array, "B T N K"],
  k_BSNK: Float[Array, "B S N K"],
  v_BSNV: Float[Array, "B S N V"],
  h_LN: Float[Array, "L N"],
  starts_BS: Bool[Array, "B S"] | None = None,
  offset: int | Int[Array, ""] = 0,
) -> Float[Array, "B T N V"]:
  """One filter for each head: attention whose softmax is a filter."""
  h_TSN, seen_BTS = _of_pairs(h_LN, starts_BS, k_BSNK, offset, q_BTNK.shape[1])
  q_BTNK, k_BSNK, v_BSNV = (
    a.astype(jnp.float32) for a in (q_BTNK, k_BSNK, v_BSNV)
  )
  scores_BTSN = jnp.einsum("BTNK,BSNK->BTSN", q_BTNK, k_BSNK)
  scores_BTSN *= h_TSN * seen_BTS[..., None]
  return jnp.einsum("BTSN,BSNV->BTNV", scores_BTSN, v_BSNV)


def _of_pairs(h_LX, starts_BS, inputs_BSX, offset, T):
  """h_{t-s}, [T, S, X], and 1 where s is seen, [B, T, S]."""
  B, S = inputs_BSX.shape[:2]
  lags_TS = offset + jnp.arange(T)[:, None] - jnp.arange(S)
  h_TSX = h_LX.astype(jnp.float32)[jnp.maximum(lags_TS, 0)]
  seen_BTS = jnp.broadcast_to(lags_TS >= 0, (B, T, S))
  if starts_BS is not None:
    of_BS = jnp.cumsum(starts_BS, axis=1, dtype=jnp.int32)
    of_BT = jax.lax.dynamic_slice_in_dim(of_BS, offset, T, axis=1)
    seen_BTS &= of_BT[:, :, None] == of_BS[:, None]
  return h_TSX, seen_BTS.astype(jnp.float32)
