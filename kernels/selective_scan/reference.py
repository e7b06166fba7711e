"""The selective scan a token at a time: the oracle."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..by_chunks import by_tokens


def selective_scan(
  x_BTE: Float[Array, "B T E"],
  dt_BTE: Float[Array, "B T E"],
  A_EN: Float[Array, "E N"],
  B_BTN: Float[Array, "B T N"],
  C_BTN: Float[Array, "B T N"],
  starts_BT: Bool[Array, "B T"],
  state_BEN: Float[Array, "B E N"],
) -> tuple[Float[Array, "B T E"], Float[Array, "B E N"]]:
  """Outputs of all tokens, and the state after the last one."""

  def step(h_BEN, token):
    x_BE, dt_BE, B_BN, C_BN, starts_B = token
    h_BEN = jnp.where(starts_B[:, None, None], 0, h_BEN)
    h_BEN = jnp.exp(dt_BE[..., None] * A_EN) * h_BEN
    h_BEN += (dt_BE * x_BE)[..., None] * B_BN[:, None]
    return h_BEN, jnp.einsum("BEN,BN->BE", h_BEN, C_BN)

  arrays = (x_BTE, dt_BTE, B_BTN, C_BTN, starts_BT)
  return by_tokens(step, state_BEN, arrays)
