"""Gated linear units: SwiGLU, GeGLU, ReGLU (Shazeer 2020, arXiv:2002.05202)."""

import dataclasses

import flax.linen as nn

from ...errors import UserError
from . import ACTIVATIONS, FFN, check_activation


@dataclasses.dataclass(frozen=True)
class Options:
  # silu: SwiGLU; gelu: GeGLU; relu: ReGLU; identity: bilinear
  activation: str = "silu"
  bias: bool = False  # where model.use_bias gives none, as Griffin's
  # Of W_gate x and of what comes out: Falcon-H1's (Zuo et al. 2025,
  # arXiv:2507.22448).
  multipliers: tuple[float, ...] = (1.0, 1.0)

  def __post_init__(self):
    check_activation("glu", self.activation)
    if len(self.multipliers) != 2 or min(self.multipliers) <= 0:
      raise UserError(
        f"multipliers={self.multipliers} must be two positive numbers, of the"
        " gate and of what comes out"
      )


class GLU(FFN):
  """W_down (act(W_gate x) * W_up x)."""

  @nn.compact
  def __call__(self, x_BTD, ctx, sizes_E=None):
    c = self.config
    o = c.options("glu")
    D, F = c.d_model, c.ff_dim
    of_gate, of_down = o.multipliers
    bias = c.use_bias or o.bias

    def into(name):
      sizes, axes = (D, F), ("embed", "ff")
      return self.project(
        name, x_BTD, sizes, axes, sizes_E, to_branch=True, bias=bias
      )

    gate_BTF = ACTIVATIONS[o.activation](of_gate * into("gate"))
    sizes, axes = (F, D), ("ff", "embed")
    return of_down * self.project(
      "down",
      gate_BTF * into("up"),
      sizes,
      axes,
      sizes_E,
      to_residual=True,
      bias=bias,
    )
