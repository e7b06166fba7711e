"""Gated linear units: SwiGLU, GeGLU, ReGLU (Shazeer 2020, arXiv:2002.05202)."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float

from ...parallel.rules import constrain
from ..context import Context
from ..linear import Projection
from . import ACTIVATIONS, FFN, check_activation


@dataclasses.dataclass(frozen=True)
class Options:
  # silu: SwiGLU; gelu: GeGLU; relu: ReGLU; identity: bilinear
  activation: str = "silu"

  def __post_init__(self):
    check_activation("glu", self.activation)


class GLU(FFN):
  """W_down (act(W_gate x) * W_up x)."""

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    c = self.config
    D, F = c.d_model, c.ff_dim

    into = (c, "BTD,DF->BTF", (D, F), ("embed", "ff"))
    gate_BTF = Projection(*into, to_branch=True, name="gate")(x_BTD)
    up_BTF = Projection(*into, to_branch=True, name="up")(x_BTD)
    h_BTF = ACTIVATIONS[c.options("glu").activation](gate_BTF) * up_BTF
    h_BTF = constrain(h_BTF, "batch", "seq", "ff")
    down = Projection(
      c, "BTF,FD->BTD", (F, D), ("ff", "embed"), to_residual=True, name="down"
    )
    return down(h_BTF)
