"""Gated linear units: SwiGLU, GeGLU, ReGLU (Shazeer 2020, arXiv:2002.05202)."""

import dataclasses

import flax.linen as nn

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
  def __call__(self, x_BTD, ctx, sizes_E=None):
    c = self.config
    D, F = c.d_model, c.ff_dim

    def into(name):
      sizes, axes = (D, F), ("embed", "ff")
      return self.project(name, x_BTD, sizes, axes, sizes_E, to_branch=True)

    h_BTF = ACTIVATIONS[c.options("glu").activation](into("gate")) * into("up")
    sizes, axes = (F, D), ("ff", "embed")
    return self.project("down", h_BTF, sizes, axes, sizes_E, to_residual=True)
