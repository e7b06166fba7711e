"""The delta rule a token at a time: the oracle."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..by_chunks import by_tokens
from ..linear_scan import FLOOR


def delta_rule(
  q_BTNK: Float[Array, "B T N K"],
  k_BTNK: Float[Array, "B T N K"],
  v_BTNV: Float[Array, "B T N V"],
  g_BTNX: Float[Array, "B T N X"],
  a_BTNK: Float[Array, "B T N K"],
  b_BTNK: Float[Array, "B T N K"],
  starts_BT: Bool[Array, "B T"],
  state_BNKV: Float[Array, "B N K V"],
  *,
  least: float = FLOOR,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
  """Outputs of all tokens, and the state after the last one."""
  del least  # what is faster where it is known

  def step(S_BNKV, token):
    q, k, v_BNV, g_BNX, a, b, starts_B = token
    S_BNKV = jnp.where(starts_B[:, None, None, None], 0, S_BNKV)
    read_BNV = jnp.einsum("BNKV,BNK->BNV", S_BNKV, a)
    S_BNKV = jnp.exp(g_BNX)[..., None] * S_BNKV
    S_BNKV += b[..., None] * read_BNV[..., None, :]
    S_BNKV += k[..., None] * v_BNV[..., None, :]
    return S_BNKV, jnp.einsum("BNKV,BNK->BNV", S_BNKV, q)

  arrays = (q_BTNK, k_BTNK, v_BTNV, g_BTNX, a_BTNK, b_BTNK)
  return by_tokens(step, state_BNKV, (*arrays, starts_BT))
