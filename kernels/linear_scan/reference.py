"""The gated linear recurrence a token at a time: the oracle."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..by_chunks import by_tokens


def linear_scan(
  q_BTGK: Float[Array, "B T G K"],
  k_BTGK: Float[Array, "B T G K"],
  v_BTNV: Float[Array, "B T N V"],
  g_BTNX: Float[Array, "B T N X"],
  starts_BT: Bool[Array, "B T"],
  state_BNKV: Float[Array, "B N K V"],
  bonus_NK: Float[Array, "N K"] | None = None,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
  """Outputs of all tokens, and the state after the last one."""
  share = v_BTNV.shape[2] // q_BTGK.shape[2]
  q_BTNK, k_BTNK = (jnp.repeat(a, share, axis=2) for a in (q_BTGK, k_BTGK))

  def step(S_BNKV, token):
    q_BNK, k_BNK, v_BNV, g_BNX, starts_B = token
    S_BNKV = jnp.where(starts_B[:, None, None, None], 0, S_BNKV)
    new_BNKV = k_BNK[..., None] * v_BNV[..., None, :]
    seen_BNKV = S_BNKV
    S_BNKV = jnp.exp(g_BNX)[..., None] * S_BNKV + new_BNKV
    if bonus_NK is None:
      seen_BNKV = S_BNKV
    else:
      seen_BNKV += bonus_NK[..., None] * new_BNKV
    return S_BNKV, jnp.einsum("BNKV,BNK->BNV", seen_BNKV, q_BNK)

  arrays = (q_BTNK, k_BTNK, v_BTNV, g_BTNX, starts_BT)
  return by_tokens(step, state_BNKV, arrays)
