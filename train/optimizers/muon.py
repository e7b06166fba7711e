"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

Momentum, orthogonalised, for the matrices. Embeddings, the output matrix,
norms and biases go to AdamW.
"""

import dataclasses
import math

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ...errors import UserError, nearest
from ...models.mup import growth
from ...models.param import ParamSpec
from ..ranges import require
from .matrices import Matrix, apart, as_matrix, frobenius, transpose
from .width import entrywise

# Of the quintic iteration: its slope at 0 is as large as it may be while
# singular values end near 1, in about [0.7, 1.2], and no nearer.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)

SCALES = ("match_rms", "original")


@dataclasses.dataclass(frozen=True)
class Options:
  """`match_rms` takes AdamW's opt.lr, or up to three times it, and its decay.

  It makes an update's entries as large as AdamW's usual ones (Liu et al. 2025,
  arXiv:2502.16982, equation 4). `original` wants an opt.lr of about 0.02, and
  with it an `adam_factor` of about 0.1.
  """

  momentum: float = 0.95
  nesterov: bool = True
  ns_steps: int = 5  # Newton-Schulz iterations
  # match_rms: 0.2 sqrt(max(in, out)); original: sqrt(max(1, out / in)).
  scale: str = "match_rms"
  adam_factor: float = 1.0  # of AdamW's direction, for all but the matrices
  adam_b1: float = 0.9
  adam_b2: float = 0.95
  adam_eps: float = 1e-8

  def __post_init__(self):
    require("muon", self, "in [0, 1)", "momentum", "adam_b1", "adam_b2")
    require("muon", self, "positive", "adam_eps")
    require("muon", self, "at least 1", "ns_steps")
    require("muon", self, "at least 0", "adam_factor")
    if self.scale not in SCALES:
      raise UserError(
        f"opt.opts.muon.scale={self.scale!r} is not one of {', '.join(SCALES)}"
        f"{nearest(self.scale, SCALES)}"
      )


def orthogonalize(
  m: Float[Array, "... I O"], steps: int
) -> Float[Array, "... I O"]:
  """Near U V^T, for the singular value decomposition U S V^T of each matrix.

  X <- a X + (b X X^T + c (X X^T)^2) X, from X = M / |M|.
  """
  wide = m.shape[-2] <= m.shape[-1]
  x = m if wide else transpose(m)  # the smaller Gram matrix
  x = x / jnp.maximum(frobenius(x), 1e-7)
  a, b, c = COEFFICIENTS
  for _ in range(steps):
    gram = x @ transpose(x)
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x if wide else transpose(x)


def spectral_norm(options: Options, n_in: int, n_out: int) -> float:
  """Of an update, about: what the orthogonal matrix is multiplied with."""
  if options.scale == "match_rms":
    return 0.2 * math.sqrt(max(n_in, n_out))
  return math.sqrt(max(1, n_out / n_in))


def width_factor(options: Options, spec: ParamSpec) -> float:
  """An update's spectral norm is to be as sqrt(out / in).

  That is muP for any optimizer (Yang et al. 2023, arXiv:2310.17813, condition
  1). So with match_rms the rate falls with the square root of the width, and
  with original it stays.
  """
  matrix = as_matrix(spec)
  if matrix is None or matrix.is_table:
    return entrywise(options, spec)  # AdamW's
  n_in, n_out = growth(spec)
  ours = spectral_norm(options, matrix.n_in, matrix.n_out)
  proxy = Matrix(dataclasses.replace(spec, shape=spec.base_shape))
  theirs = spectral_norm(options, proxy.n_in, proxy.n_out)
  return math.sqrt(n_out / n_in) * theirs / ours


def muon(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  momentum = options.momentum

  def init(matrix: Matrix, param):
    del matrix
    return {"momentum": jnp.zeros_like(param)}

  def update(matrix: Matrix, grad, state, param, count):
    del param, count
    mean = momentum * state["momentum"] + grad
    ahead = grad + momentum * mean if options.nesterov else mean
    direction = matrix.unfold(
      orthogonalize(matrix.fold(ahead), options.ns_steps)
    )
    scale = spectral_norm(options, matrix.n_in, matrix.n_out)
    return scale * direction, {"momentum": mean}

  adam = optax.chain(
    optax.scale_by_adam(options.adam_b1, options.adam_b2, options.adam_eps),
    optax.scale(options.adam_factor),
  )
  return apart("muon", specs, init, update, adam)
