"""Gated attention (Qiu et al. 2025, arXiv:2505.06708)."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from ..config import ModelConfig
from ..linear import Projection

GATES = ("none", "channel", "head")


class OutputGate(nn.Module):
  """What heads found times sigmoid(W x), by channel or by head.

  Attributes:
    of: "channel", as Qwen3-Next's, or "head".
    bias: of W x.
  """

  config: ModelConfig
  of: str
  bias: bool

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], o_BTNH: Float[Array, "B T N H"]
  ) -> Float[Array, "B T N H"]:
    N, H = o_BTNH.shape[2:]
    into = Projection(
      self.config,
      "BTD,DNH->BTNH",
      (self.config.d_model, N, H if self.of == "channel" else 1),
      ("embed", "heads", "head_dim"),
      bias=self.bias,
      name="gate",
    )
    return o_BTNH * jax.nn.sigmoid(into(x_BTD))
