"""Attention with grouped queries (Ainslie et al. 2023, arXiv:2305.13245).

`n_kv_heads = n_heads` is multi-head attention (Vaswani et al. 2017,
arXiv:1706.03762), `n_kv_heads = 1` multi-query (Shazeer 2019,
arXiv:1911.02150).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kernels.dispatch import dispatch
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..mup import query_scale
from ..positions import POSITIONS
from ..watch import keep, keeping
from . import Mixer, State


class Attention(Mixer):
  """softmax(q k^T / sqrt(H)) v with K key heads for N query heads.

  The decode state holds keys and values of `max_len` slots, each slot's
  position and segment, and which slot is next.
  """

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c = self.config
    D, N, K, H = c.d_model, c.n_heads, c.n_kv_heads, c.head_dim

    q_axes = ("embed", "heads", "head_dim")
    kv_axes = ("embed", "kv_heads", "head_dim")
    q_BTNH = Projection(c, "BTD,DNH->BTNH", (D, N, H), q_axes, name="q")(x_BTD)
    k_BTKH = Projection(c, "BTD,DKH->BTKH", (D, K, H), kv_axes, name="k")(x_BTD)
    v_BTKH = Projection(c, "BTD,DKH->BTKH", (D, K, H), kv_axes, name="v")(x_BTD)
    q_BTNH = constrain(q_BTNH, "batch", "seq", "heads", "head_dim")
    k_BTKH = constrain(k_BTKH, "batch", "seq", "kv_heads", "head_dim")
    v_BTKH = constrain(v_BTKH, "batch", "seq", "kv_heads", "head_dim")

    position = POSITIONS[c.position](c, name="position")
    q_BTNH = position.rotate(q_BTNH, ctx.positions_BT)
    k_BTKH = position.rotate(k_BTKH, ctx.positions_BT)
    if (scale := query_scale(c)) != 1:
      q_BTNH *= scale
    if keeping(self):
      # Scores of all pairs would be [B, N, T, T]; a token's own is one of them.
      k_BTNH = jnp.repeat(k_BTKH, N // K, axis=2)
      keep(self, "own_score", (q_BTNH * k_BTNH).sum(-1) * H**-0.5)

    segments_BT = ctx.segment_ids_BT
    if state is None:
      k, v, offset = k_BTKH, v_BTKH, 0
      segments, positions = segments_BT, ctx.positions_BT
    else:
      if segments_BT is None:
        segments_BT = jnp.ones_like(ctx.positions_BT)
      offset = state["next"]
      chunk = {
        "k": k_BTKH,
        "v": v_BTKH,
        "segments": segments_BT,
        "positions": ctx.positions_BT,
      }
      state = {
        name: jax.lax.dynamic_update_slice_in_dim(
          state[name], new.astype(state[name].dtype), offset, axis=1
        )
        for name, new in chunk.items()
      }
      k, v = state["k"], state["v"]
      segments, positions = state["segments"], state["positions"]
      state["next"] = offset + x_BTD.shape[1]

    scores = position.scores(ctx.positions_BT, positions)
    implementation = c.implementation
    if implementation == "auto" and scores is not None:
      implementation = "reference"  # the one that takes a map of scores
    o_BTNH = dispatch("flash_attention", implementation)(
      q_BTNH,
      k,
      v,
      causal=ctx.causal,
      q_offset=offset,
      q_segments_BT=segments_BT,
      k_segments_BS=segments,
      scores=scores,
    )
    o_axes = ("heads", "head_dim", "embed")
    out = Projection(
      c, "BTNH,NHD->BTD", (N, H, D), o_axes, to_residual=True, name="o"
    )
    return out(o_BTNH), state

  @staticmethod
  def init_state(config: ModelConfig, batch: int, max_len: int) -> State:
    shape = (batch, max_len, config.n_kv_heads, config.head_dim)
    slots = jnp.zeros((batch, max_len), jnp.int32)
    return {
      "k": jnp.zeros(shape, config.compute_dtype),
      "v": jnp.zeros(shape, config.compute_dtype),
      "segments": slots,
      "positions": slots,
      "next": jnp.zeros((), jnp.int32),
    }

  @staticmethod
  def state_numbers(config: ModelConfig, max_len: int) -> int:
    return max_len * (2 * config.n_kv_heads * config.head_dim + 2)
