"""Transformer-XL's relative encoding (Dai et al. 2019, arXiv:1901.02860)."""

import flax.linen as nn
import jax.numpy as jnp

from ...kernels.flash_attention import Pairs
from ..linear import Projection
from ..param import declare, zeros
from . import Asked, Position
from .sinusoidal import sinusoid


def at_distance(by_distance_BNTM, ago_BTS):
  """[B, N, T, S] of the distances' values, each query its own row."""
  shape = (*by_distance_BNTM.shape[:3], ago_BTS.shape[-1])
  index = jnp.broadcast_to(ago_BTS[:, None], shape)
  return jnp.take_along_axis(by_distance_BNTM, index, axis=-1)


class TransformerXL(Position):
  """(q + u) k + (q + v) R_(i-j), R a linear map of sinusoids; section 3.3.

  `u` and `v` are of each layer and head, and start at 0.
  """

  word = "transformer_xl"
  of_scores = True
  mup = False
  of_content = True

  @nn.compact
  def scores(self, asked: Asked) -> Pairs:
    c = self.config
    N, H = asked.q_BTNH.shape[2:]
    K, D = asked.k_BSKH.shape[2], c.d_model
    axes = ("heads", "head_dim")
    u_NH = declare(self, "content_bias", zeros, (N, H), axes, c.param_dtype)
    v_NH = declare(self, "position_bias", zeros, (N, H), axes, c.param_dtype)
    behind = 0 if asked.causal else asked.reach - 1
    distances_M = jnp.arange(-behind, asked.reach)
    waves_MD = sinusoid(distances_M, D + D % 2)[:, :D]
    project = Projection(
      c, "BTD,DNH->BTNH", (D, N, H), ("embed", *axes), name="r"
    )
    r_MNH = project(waves_MD[None].astype(asked.q_BTNH.dtype))[0]
    q_BTNH = asked.q_BTNH
    k_BSNH = jnp.repeat(asked.k_BSKH, N // K, axis=2)
    by_key_BSN = jnp.einsum(
      "NH,BSNH->BSN",
      u_NH.astype(k_BSNH.dtype),
      k_BSNH,
      preferred_element_type=jnp.float32,
    )
    scale = asked.scale

    def relative(s_BNTS, of_queries, of_keys, shared):
      q_BT, q_BTNH = of_queries
      k_BS, by_key_BSN = of_keys
      (r_MNH,) = shared
      ago_BTS = q_BT[:, :, None] - k_BS[:, None, :] + behind
      ago_BTS = jnp.clip(ago_BTS, 0, r_MNH.shape[0] - 1)
      by_BNTM = jnp.einsum(
        "BTNH,MNH->BNTM", q_BTNH, r_MNH, preferred_element_type=jnp.float32
      )
      more = jnp.moveaxis(by_key_BSN, 1, 2)[:, :, None]
      return s_BNTS + scale * (more + at_distance(by_BNTM, ago_BTS))

    return Pairs(
      relative,
      (asked.q_positions_BT, q_BTNH + v_NH.astype(q_BTNH.dtype)),
      (asked.k_positions_BS, by_key_BSN),
      (r_MNH,),
    )
