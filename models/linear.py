"""Projection: every weight matmul of a model, and the only place for it.

Low-rank paths, quantized weights, fp8 and calibration statistics hook in here
(by `nn.intercept_methods`), so that no mixer knows of them.
"""

import math

import flax.linen as nn
from jaxtyping import Array, Float, Int

from ..kernels.dispatch import dispatch
from .config import ModelConfig
from .matmuls import MATMULS
from .param import Init, declare, normal, zeros


class Projection(nn.Module):
  """y = einsum(spec, x, kernel) (+ bias).

  The kernel starts as N(0, 1/fan_in) times `init_scale`; one that writes to
  the residual stream is divided by sqrt(2 L) too (Radford et al. 2019, 2.3).
  DeepNorm instead multiplies it, and what leads to it other than by a softmax,
  by (8 L)^(-1/4) (Wang et al. 2022, arXiv:2203.00555).

  Attributes:
    spec: an einsum of the input and the kernel, in the repository's letters:
      "BTD,DNH->BTNH". One matrix for each expert: "ECD,EDF->ECF".
    shape: sizes of the kernel's axes.
    axes: logical axes of the kernel.
    to_residual: the output is added to the residual stream.
    to_branch: the output reaches one that does so, linearly or by an
      activation: values, and the first matrices of an ffn.
    bias: whether it has one; None: as `model.use_bias` says.
    initial: of the kernel, where it starts in another way.
  """

  config: ModelConfig
  spec: str
  shape: tuple[int, ...]
  axes: tuple[str, ...]
  to_residual: bool = False
  to_branch: bool = False
  bias: bool | None = None
  initial: Init | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "..."],
    spec: str = "",
    sizes_E: Int[Array, " E"] | None = None,
  ) -> Float[Array, "..."]:
    """Multiplies x.

    Args:
      spec: another einsum of the same kernel, as that of its transpose.
      sizes_E: rows of each expert, where x is [S, D] and sorted by expert.
    """
    c = self.config
    operands, out = self.spec.split("->")
    inputs, letters = operands.split(",")
    fan_in = math.prod(
      n for a, n in zip(letters, self.shape, strict=True) if a not in out
    )
    std = c.init_scale / math.sqrt(fan_in)
    if c.residual == "deep_norm":
      if self.to_residual or self.to_branch:
        std *= (8 * c.n_layers) ** -0.25
    elif self.to_residual:
      std /= math.sqrt(2 * c.n_layers)
    roles = tuple(
      "in" if a not in out else "batch" if a in inputs else "out"
      for a in letters
    )
    init = self.initial or normal(std)
    kernel = declare(
      self, "kernel", init, self.shape, self.axes, c.param_dtype, roles
    )
    if sizes_E is None:
      y = MATMULS[c.matmul](c, spec or self.spec, x, kernel)
    else:
      x, kernel = (a.astype(c.compute_dtype) for a in (x, kernel))
      y = dispatch("grouped_matmul", c.implementation)(x, kernel, sizes_E)
    if c.use_bias if self.bias is None else self.bias:
      kept = [i for i, a in enumerate(letters) if a not in inputs]
      bias = declare(
        self,
        "bias",
        zeros,
        tuple(self.shape[i] for i in kept),
        tuple(self.axes[i] for i in kept),
        c.param_dtype,
      )
      y += bias.astype(y.dtype)
    return y
