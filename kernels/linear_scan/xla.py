"""The gated linear recurrence by chunks (Yang et al. 2023, arXiv:2312.06635).

Within a chunk it is attention under decays, between chunks a state: matrix
products, and a loop of T / C steps. As Mamba-2's SSD (Dao and Gu 2024,
arXiv:2405.21060) where a head has one decay.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .chunks import Decays, over_chunks

CHUNK = 64  # tokens: pairs cost as many products a token, states K


@jax.named_scope("linear_scan")
def linear_scan(
  q_BTGK: Float[Array, "B T G K"],
  k_BTGK: Float[Array, "B T G K"],
  v_BTNV: Float[Array, "B T N V"],
  g_BTNX: Float[Array, "B T N X"],
  starts_BT: Bool[Array, "B T"],
  state_BNKV: Float[Array, "B N K V"],
  bonus_NK: Float[Array, "N K"] | None = None,
  *,
  chunk: int = CHUNK,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
  """As the reference, `chunk` tokens at a time."""
  share = v_BTNV.shape[2] // q_BTGK.shape[2]
  own = bonus_NK is None
  if g_BTNX.shape[-1] > 1:  # each head decays on its own
    q_BTGK, k_BTGK = (jnp.repeat(a, share, axis=2) for a in (q_BTGK, k_BTGK))
    share = 1

  def of_chunk(S_BNKV, arrays, starts_BC):
    q_BGCK, k_BGCK, v_BNCV, g_BNCX = arrays
    decays = Decays.of(g_BNCX, starts_BC)
    A_BNCC = decays.pairs(q_BGCK, k_BGCK, own)
    o_BNCV = A_BNCC @ v_BNCV
    q_BNCK, k_BNCK = (jnp.repeat(a, share, axis=1) for a in (q_BGCK, k_BGCK))
    sums_BNCX = decays.after_BNCX if own else decays.before_BNCX
    o_BNCV += (q_BNCK * decays.of_state(sums_BNCX)) @ S_BNKV
    if bonus_NK is not None:
      self_BNC1 = (q_BNCK * bonus_NK[:, None] * k_BNCK).sum(-1, keepdims=True)
      o_BNCV += self_BNC1 * v_BNCV
    left_BNX1 = jnp.swapaxes(
      decays.of_state(decays.after_BNCX)[:, :, -1:], 2, 3
    )
    new_BNKV = jnp.swapaxes(k_BNCK * decays.to_end(), 2, 3) @ v_BNCV
    return o_BNCV, left_BNX1 * S_BNKV + new_BNKV

  arrays = (q_BTGK, k_BTGK, v_BTNV, g_BTNX)
  return over_chunks(of_chunk, arrays, starts_BT, state_BNKV, chunk)
