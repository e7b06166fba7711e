"""The selective scan by chunks, each an associative scan.

A chunk's states [B, C, E, N] are all that exists of them at a time, and are
made anew for the gradient.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..by_chunks import by_chunks
from ..diagonal_scan.xla import within

CHUNK = 32  # tokens


@jax.named_scope("selective_scan")
def selective_scan(
  x_BTE: Float[Array, "B T E"],
  dt_BTE: Float[Array, "B T E"],
  A_EN: Float[Array, "E N"],
  B_BTN: Float[Array, "B T N"],
  C_BTN: Float[Array, "B T N"],
  starts_BT: Bool[Array, "B T"],
  state_BEN: Float[Array, "B E N"],
  *,
  chunk: int = CHUNK,
) -> tuple[Float[Array, "B T E"], Float[Array, "B E N"]]:
  """As the reference, `chunk` tokens at a time."""

  def body(h_BEN, chunk):
    x_BCE, dt_BCE, B_BCN, C_BCN, starts_BC = chunk
    a_BCEN = jnp.exp(dt_BCE[..., None] * A_EN)
    a_BCEN = jnp.where(starts_BC[..., None, None], 0, a_BCEN)
    b_BCEN = (dt_BCE * x_BCE)[..., None] * B_BCN[:, :, None]
    h_BCEN = within(a_BCEN, b_BCEN, h_BEN)
    return h_BCEN[:, -1], jnp.einsum("BCEN,BCN->BCE", h_BCEN, C_BCN)

  # What fills the last chunk has dt = 0.
  arrays = (x_BTE, dt_BTE, B_BTN, C_BTN, starts_BT)
  return by_chunks(body, state_BEN, arrays, chunk)
