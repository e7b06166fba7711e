"""Sinusoidal absolute positions (Vaswani et al. 2017, arXiv:1706.03762)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from . import Position


def sinusoid(positions: Int[Array, "..."], size: int) -> Float[Array, "... C"]:
  """sin and cos of positions * 10000^(-2i/size), in halves; section 3.5.

  The paper has them in turn; a linear map after them does not know.
  """
  frequency = 10_000.0 ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
  angle = positions[..., None].astype(jnp.float32) * frequency
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Sinusoidal(Position):
  """Waves added to the embedding, which is multiplied by sqrt(D) (3.4)."""

  word = "sinusoidal"
  relative = False
  mup = False

  def embed(self, x_BTD, positions_BT):
    D = x_BTD.shape[-1]
    if D % 2:
      raise UserError(
        f"model.d_model={D} is odd, and model.position='sinusoidal' has pairs;"
        " make it even"
      )
    waves_BTD = sinusoid(positions_BT, D)
    return (x_BTD * D**0.5 + waves_BTD).astype(x_BTD.dtype)
