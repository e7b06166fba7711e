"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKH: Float[Array, "B S K H"],
  *,
  causal: bool,
  q_offset: int | Int[Array, ""] = 0,
  q_segments_BT: Int[Array, "B T"] | None = None,
  k_segments_BS: Int[Array, "B S"] | None = None,
  scores: Callable[[Array], Array] | None = None,
) -> Float[Array, "B T N H"]:
  """softmax(q k^T / sqrt(H)) v, each key head serving G = N/K query heads.

  Query t stands at slot `q_offset + t` of the keys. A key is seen within the
  same segment and, if `causal`, not after the query; segment 0 is padding,
  and a query that sees no key gets zeros. `scores` maps scaled scores
  [B, N, T, S] to scores, before the mask: biases and caps go there.
  """
  B, T, N, H = q_BTNH.shape
  S, K = k_BSKH.shape[1:3]
  q_BTKGH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  # fp32: a bf16 score of 20 is off by 0.06, and a softmax by as much.
  s_BKGTS = jnp.einsum(
    "BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
  )
  s_BNTS = s_BKGTS.reshape(B, N, T, S)
  if scores is not None:
    s_BNTS = scores(s_BNTS)
  seen = jnp.ones((1, 1, T, S), bool)
  if causal:
    t = q_offset + jnp.arange(T)[:, None]
    seen = seen & (jnp.arange(S)[None, :] <= t)
  if q_segments_BT is not None and k_segments_BS is not None:
    same = q_segments_BT[:, :, None] == k_segments_BS[:, None, :]
    seen = seen & (same & (k_segments_BS != 0)[:, None, :])[:, None]
  s_BNTS = jnp.where(seen, s_BNTS, jnp.finfo(jnp.float32).min)
  p_BNTS = jnp.where(seen, jax.nn.softmax(s_BNTS, axis=-1), 0)
  p_BKGTS = p_BNTS.astype(v_BSKH.dtype).reshape(B, K, N // K, T, S)
  return jnp.einsum("BKGTS,BSKH->BTKGH", p_BKGTS, v_BSKH).reshape(B, T, N, H)
