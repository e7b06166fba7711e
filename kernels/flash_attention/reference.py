"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..flops import share
from . import Pairs


def _products(q_BTKGH, k_BSKH):
  # fp32: a bf16 score of 20 is off by 0.06, and a softmax by as much.
  return jnp.einsum(
    "BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
  )


def _sums(p_BKGTS, v_BSKV):
  return jnp.einsum("BKGTS,BSKV->BTKGV", p_BKGTS, v_BSKV)


@jax.named_scope("flash_attention")
def attention(
  q_BTNH: Float[Array, "B T N H"],
  k_BSKH: Float[Array, "B S K H"],
  v_BSKV: Float[Array, "B S K V"],
  *,
  causal: bool,
  window: int = 0,
  q_offset: int | Int[Array, ""] = 0,
  q_segments_BT: Int[Array, "B T"] | None = None,
  k_segments_BS: Int[Array, "B S"] | None = None,
  mask: Pairs | None = None,
  scores: Pairs | None = None,
  scale: float | None = None,
  soft_cap: float = 0.0,
  sinks_N: Float[Array, " N"] | None = None,
  return_lse: bool = False,
) -> Any:
  """softmax(q k^T * scale) v, each key head serving G = N/K query heads.

  Query t stands at slot `q_offset + t` of the keys. A key is seen within the
  same segment, if `mask` says so and, if `causal`, not after the query; segment
  0 is padding, and a query that sees no key gets zeros.

  Args:
    window: how many slots a query sees, its own among them: the last ones, or,
      where not `causal`, those less than `window` away; 0: all.
    scores: a map of the scaled (and capped) scores, for biases.
    scale: None: 1 / sqrt(H).
    soft_cap: c, where scores become c tanh(score / c); 0: none. Gemma 2
      (arXiv:2408.00118).
    sinks_N: a score for each head that joins the softmax and has no value;
      OpenAI 2025 (gpt-oss, arXiv:2508.10925).
    return_lse: also the logsumexp of each query's scores, sink included.

  Returns:
    out_BTNV, or (out_BTNV, lse_BTN).
  """
  B, T, N, H = q_BTNH.shape
  S, K = k_BSKH.shape[1:3]
  V = v_BSKV.shape[-1]
  factor = float(H**-0.5 if scale is None else scale)
  q_BTKGH = (q_BTNH * factor).astype(q_BTNH.dtype).reshape(B, T, K, N // K, H)
  least = min(S, window or S, (mask.seen if mask else 0) or S)
  s_BKGTS = share(_products, least, S)(q_BTKGH, k_BSKH)
  s_BNTS = s_BKGTS.reshape(B, N, T, S)
  if soft_cap:
    s_BNTS = soft_cap * jnp.tanh(s_BNTS / soft_cap)
  if scores is not None:
    s_BNTS = scores(s_BNTS)
  seen = jnp.ones((1, 1, T, S), bool)
  ago = q_offset + jnp.arange(T)[:, None] - jnp.arange(S)[None, :]
  if causal:
    seen = seen & (ago >= 0)
  if window:
    seen = seen & (ago < window) & (ago > -window)
  if q_segments_BT is not None and k_segments_BS is not None:
    same = q_segments_BT[:, :, None] == k_segments_BS[:, None, :]
    seen = seen & (same & (k_segments_BS != 0)[:, None, :])[:, None]
  if mask is not None:
    seen = seen & mask()
  # Of a row that sees nothing all are equal: finite, and then zeros.
  s_BNTS = jnp.where(seen, s_BNTS, -1e30)
  m_BNT1 = s_BNTS.max(-1, keepdims=True)
  sink_N11 = jnp.full((N, 1, 1), -jnp.inf)
  if sinks_N is not None:
    sink_N11 = sinks_N.astype(jnp.float32)[:, None, None]
    m_BNT1 = jnp.maximum(m_BNT1, sink_N11)
  # Any number would do: it cancels, and has no gradient.
  m_BNT1 = jax.lax.stop_gradient(m_BNT1)
  p_BNTS = jnp.where(seen, jnp.exp(s_BNTS - m_BNT1), 0)
  l_BNT1 = p_BNTS.sum(-1, keepdims=True) + jnp.exp(sink_N11 - m_BNT1)
  l_BNT1 = jnp.maximum(l_BNT1, 1e-30)
  p_BNTS = (p_BNTS / l_BNT1).astype(v_BSKV.dtype)
  p_BKGTS = p_BNTS.reshape(B, K, N // K, T, S)
  o_BTKGV = share(_sums, least, S)(p_BKGTS, v_BSKV)
  o_BTNV = o_BTKGV.reshape(B, T, N, V)
  if not return_lse:
    return o_BTNV
  return o_BTNV, jnp.moveaxis((m_BNT1 + jnp.log(l_BNT1))[..., 0], 1, 2)
