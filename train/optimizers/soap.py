"""SOAP (Vyas et al. 2024, arXiv:2409.11321).

Adam in the eigenbasis of Shampoo's statistics, for the matrices. Norms and
biases go to Adam.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ..ranges import require
from .matrices import Matrix, apart, each, transpose
from .width import unknown

# See Qiu et al. 2025, arXiv:2512.05620, on how rates drift at finite widths.
width_factor = unknown(
  "soap",
  "its step is between those of Adam and of Muon, whose rates go with"
  " 1/width and 1/sqrt(width), by the rank of the gradient",
)


@dataclasses.dataclass(frozen=True)
class Options:
  """Takes AdamW's opt.lr, or up to three times as much."""

  b1: float = 0.95
  b2: float = 0.95
  eps: float = 1e-8
  stats_decay: float = 0.95  # of the means of G G^T and G^T G
  every: int = 10  # updates between changes of the basis
  max_dim: int = 10_000  # a longer side of a matrix is not rotated

  def __post_init__(self):
    require("soap", self, "in [0, 1)", "b1", "b2", "stats_decay")
    require("soap", self, "positive", "eps")
    require("soap", self, "at least 1", "every", "max_dim")


def _eigenbasis(stats: Float[Array, "... N N"]) -> Float[Array, "... N N"]:
  """Eigenvectors, those of the largest eigenvalues first."""
  return jnp.flip(each(jnp.linalg.eigh, stats)[1], -1)


def _next_basis(stats, basis):
  """One step of power iteration (algorithm 4), and the new order."""
  product = stats @ basis
  # The estimated eigenvalues. QR favours the first columns, so the largest
  # come first; the second moments move along.
  order = jnp.argsort(-jnp.sum(basis * product, -2), -1)
  product = jnp.take_along_axis(product, order[..., None, :], -1)
  return each(jnp.linalg.qr, product)[0], order


def soap(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  """Algorithm 3. The first gradient only makes the basis, and moves nothing:
  the matrices have their weight decay alone then.

  A side that is the vocabulary is not rotated: nor is it in the paper, where
  it is longer than `max_dim`.
  """
  b1, b2, eps = options.b1, options.b2, options.eps

  def rotated(matrix: Matrix) -> dict[str, int]:
    """The sides with a basis, and their lengths."""
    sides = {"in": matrix.n_in, "out": matrix.n_out}
    return {
      side: n
      for side, n in sides.items()
      if n <= options.max_dim and not matrix.has_vocab(side)
    }

  def rotate(m, bases, *, back: bool):
    """Q_in^T M Q_out, or back."""
    turn = (lambda q: q) if back else transpose
    if "in" in bases:
      m = turn(bases["in"]) @ m
    if "out" in bases:
      m = m @ transpose(turn(bases["out"]))
    return m

  def init(matrix: Matrix, param):
    square = {
      side: jnp.zeros((*matrix.batch, n, n))
      for side, n in rotated(matrix).items()
    }
    return {
      "mean": jnp.zeros_like(param),
      "square": jnp.zeros_like(param),  # in the basis
      "stats": square,
      "bases": square,
    }

  def update(matrix: Matrix, grad, state, param, count):
    del param
    g = matrix.fold(grad)
    stats, bases = dict(state["stats"]), state["bases"]
    for side in stats:
      outer = g @ transpose(g) if side == "in" else transpose(g) @ g
      stats[side] += (1 - options.stats_decay) * (outer - stats[side])

    def first(_):
      basis = {side: _eigenbasis(a) for side, a in stats.items()}
      still = jnp.zeros_like(grad)
      return still, basis, state["mean"], state["square"]

    def later(_):
      mean = state["mean"] + (1 - b1) * (grad - state["mean"])
      turned = rotate(g, bases, back=False)
      square = matrix.fold(state["square"])
      square += (1 - b2) * (jnp.square(turned) - square)
      t = count.astype(jnp.float32)
      m_hat = rotate(matrix.fold(mean), bases, back=False) / (1 - b1**t)
      u = m_hat / (jnp.sqrt(square / (1 - b2**t)) + eps)
      direction = matrix.unfold(rotate(u, bases, back=True))

      def refresh(_):
        new, moved = dict(bases), square
        for side in bases:
          new[side], order = _next_basis(stats[side], bases[side])
          if side == "in":
            moved = jnp.take_along_axis(moved, order[..., :, None], -2)
          else:
            moved = jnp.take_along_axis(moved, order[..., None, :], -1)
        return new, moved

      basis, square = jax.lax.cond(
        count % options.every == 0,
        refresh,
        lambda _: (bases, square),
        None,
      )
      return direction, basis, mean, matrix.unfold(square)

    direction, basis, mean, square = jax.lax.cond(
      count == 0, first, later, None
    )
    return direction, {
      "mean": mean,
      "square": square,
      "stats": stats,
      "bases": basis,
    }

  adam = optax.scale_by_adam(b1, b2, eps)
  return apart("soap", specs, init, update, adam, tables=True)
