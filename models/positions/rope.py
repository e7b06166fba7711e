"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from . import Position


@dataclasses.dataclass(frozen=True)
class Options:
  rope_theta: float = 10_000.0  # base of the wavelengths


class RoPE(Position):
  """Rotates each pair (i, i + H/2) of a head by position * theta^(-2i/H).

  The pairing is that of Llama in its Hugging Face form (halves).
  """

  def setup(self):
    if self.config.head_dim % 2:
      raise UserError(
        f"model.head_dim={self.config.head_dim} is odd, and"
        " model.position='rope' turns pairs; make it even"
      )

  def rotate(
    self, x_BTNH: Float[Array, "B T N H"], positions_BT: Int[Array, "B T"]
  ) -> Float[Array, "B T N H"]:
    H = x_BTNH.shape[-1]
    theta = self.config.options("rope").rope_theta
    # fp32: bf16 angles are wrong by whole turns from position 256 on.
    frequency = theta ** (-jnp.arange(0, H, 2, dtype=jnp.float32) / H)
    angle_BTH = positions_BT[..., None].astype(jnp.float32) * frequency
    cos = jnp.cos(angle_BTH)[:, :, None]
    sin = jnp.sin(angle_BTH)[:, :, None]
    x1, x2 = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)
    return turned.astype(x_BTNH.dtype)
