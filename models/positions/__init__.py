"""POSITIONS: how a model knows the order of its tokens.

A new encoding is one file here and one line below.
"""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float, Int

from ...registry import Registry
from ..config import ModelConfig


class Position(nn.Module):
  """The three places where an encoding may act; each does nothing here."""

  config: ModelConfig

  def embed(
    self, x_BTD: Float[Array, "B T D"], positions_BT: Int[Array, "B T"]
  ) -> Float[Array, "B T D"]:
    """Acts on the token embeddings."""
    del positions_BT
    return x_BTD

  def rotate(
    self, x_BTNH: Float[Array, "B T N H"], positions_BT: Int[Array, "B T"]
  ) -> Float[Array, "B T N H"]:
    """Acts on queries, and on keys."""
    del positions_BT
    return x_BTNH

  def scores(
    self,
    q_positions_BT: Int[Array, "B T"],
    k_positions_BS: Int[Array, "B S"],
  ) -> Callable[[Array], Array] | None:
    """A map of scaled scores [B, N, T, S] of a (q block, k block), or None."""
    del q_positions_BT, k_positions_BS


POSITIONS = Registry(
  "position",
  "model.position",
  __name__,
  {
    "none": "none:NoPosition",
    "rope": "rope:RoPE",
  },
)
