"""The delta rule by chunks (Yang et al. 2024, arXiv:2406.06484).

What the tokens of a chunk read from the state, u_t = S_{t-1}^T a_t, depends on
what those before them wrote by it: a triangular system of C equations, whose
inverse serves all columns of the state. All of it is matrix products.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..linear_scan import FLOOR
from ..linear_scan.chunks import Decays, over_chunks
from .inverse import inverse

CHUNK = 64  # tokens


@jax.named_scope("delta_rule")
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
  chunk: int = CHUNK,
) -> tuple[Float[Array, "B T N V"], Float[Array, "B N K V"]]:
  """As the reference, `chunk` tokens at a time."""

  def of_chunk(S_BNKV, arrays, starts_BC):
    q, k, v, g, a, b = arrays  # [B, N, C, ...]
    decays = Decays.of(g, starts_BC, least)
    read = (a * decays.of_state(decays.before_BNCX)) @ S_BNKV
    read += decays.pairs(a, k, own=False) @ v
    by_read_BNCC = decays.pairs(a, b, own=False)
    u = inverse(by_read_BNCC) @ read
    o = (q * decays.of_state(decays.after_BNCX)) @ S_BNKV
    o += decays.pairs(q, k, own=True) @ v + decays.pairs(q, b, own=True) @ u
    left_BNCX, to_end = decays.of_state(decays.after_BNCX), decays.to_end()
    S_BNKV = jnp.swapaxes(left_BNCX[:, :, -1:], 2, 3) * S_BNKV
    S_BNKV += jnp.swapaxes(k * to_end, 2, 3) @ v
    return o, S_BNKV + jnp.swapaxes(b * to_end, 2, 3) @ u

  arrays = (q_BTNK, k_BTNK, v_BTNV, g_BTNX, a_BTNK, b_BTNK)
  return over_chunks(of_chunk, arrays, starts_BT, state_BNKV, chunk)
