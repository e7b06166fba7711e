"""Shampoo (Gupta et al. 2018, arXiv:1802.09568).

Blocks, grafting and means in the place of sums are those of Anil et al. 2020,
arXiv:2002.09018. Embeddings, the output matrix, norms and biases go to Adam.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ...errors import UserError, nearest
from ..ranges import require
from .matrices import Matrix, apart, each, frobenius, transpose
from .width import unknown

# See Qiu et al. 2025, arXiv:2512.05620, on how rates drift at finite widths.
width_factor = unknown(
  "shampoo",
  "its step is between those of Adam and of Muon, whose rates go with"
  " 1/width and 1/sqrt(width), by the rank of the gradient",
)

GRAFTS = ("adam", "sgd", "none")


@dataclasses.dataclass(frozen=True)
class Options:
  """With graft=adam it takes AdamW's opt.lr."""

  b1: float = 0.9  # of the gradient; 0: none, as in 2018
  # Of the statistics G G^T and G^T G, and of the grafted Adam's squares;
  # 1: the statistics are sums, as in 2018.
  b2: float = 0.99
  eps: float = 1e-6  # ridge, as a share of the largest eigenvalue
  graft: str = "adam"  # whose update's norm is taken: adam | sgd | none
  every: int = 10  # updates between new roots
  max_dim: int = 1024  # a longer side is cut into blocks

  def __post_init__(self):
    require("shampoo", self, "in [0, 1)", "b1")
    require("shampoo", self, "in (0, 1]", "b2")
    require("shampoo", self, "positive", "eps")
    require("shampoo", self, "at least 1", "every", "max_dim")
    if self.graft not in GRAFTS:
      raise UserError(
        f"opt.opts.shampoo.graft={self.graft!r} is not one of"
        f" {', '.join(GRAFTS)}{nearest(self.graft, GRAFTS)}"
      )
    if self.graft == "adam" and self.b2 == 1:
      raise UserError(
        "opt.opts.shampoo.b2=1.0 leaves the grafted Adam no mean of squares;"
        " use b2 < 1, or graft='sgd' or 'none'"
      )


@dataclasses.dataclass(frozen=True)
class Blocks:
  """A grid of equal blocks over matrices, padded with zeros.

  Zeros are exact: the statistics have no entry there, and the preconditioned
  gradient none either.
  """

  n_in: int
  n_out: int
  max_dim: int

  def _grid(self, n: int) -> tuple[int, int]:
    """How many blocks, and how long each."""
    blocks = -(-n // self.max_dim)
    return blocks, -(-n // blocks)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Blocks in a column, in a row, and the sides of one."""
    (n, rows), (m, columns) = self._grid(self.n_in), self._grid(self.n_out)
    return n, m, rows, columns

  def cut(self, a: Float[Array, "... I O"]) -> Float[Array, "... n m r c"]:
    n, m, rows, columns = self.shape
    widths = [(0, 0)] * (a.ndim - 2)
    widths += [(0, n * rows - self.n_in), (0, m * columns - self.n_out)]
    a = jnp.pad(a, widths).reshape(*a.shape[:-2], n, rows, m, columns)
    return jnp.swapaxes(a, -3, -2)

  def join(self, a: Float[Array, "... n m r c"]) -> Float[Array, "... I O"]:
    n, m, rows, columns = self.shape
    a = jnp.swapaxes(a, -3, -2)
    a = a.reshape(*a.shape[:-4], n * rows, m * columns)
    return a[..., : self.n_in, : self.n_out]


def inverse_root(
  stats: Float[Array, "... N N"], eps: float
) -> Float[Array, "... N N"]:
  """(A + eps |A| I)^(-1/4), by eigenvalues: fp32, which is enough for it."""
  values, vectors = each(jnp.linalg.eigh, stats)
  values = jnp.maximum(values, 0)
  ridge = eps * values.max(-1, keepdims=True)
  # Where there was no gradient yet, any finite root will do.
  roots = jnp.maximum(values + ridge, 1e-30) ** -0.25
  return (vectors * roots[..., None, :]) @ transpose(vectors)


def shampoo(options: Options, specs) -> optax.GradientTransformationExtraArgs:
  """L^(-1/4) M R^(-1/4), with the norm of the grafted update."""
  b1, b2 = options.b1, options.b2

  def grid(matrix: Matrix) -> Blocks:
    return Blocks(matrix.n_in, matrix.n_out, options.max_dim)

  def init(matrix: Matrix, param):
    n, m, rows, columns = grid(matrix).shape
    left = jnp.zeros((*matrix.batch, n, m, rows, rows))
    right = jnp.zeros((*matrix.batch, n, m, columns, columns))
    state = {
      "mean": jnp.zeros_like(param),
      "stats": {"left": left, "right": right},
      "roots": {"left": left, "right": right},
    }
    if options.graft == "adam":
      state["square"] = jnp.zeros_like(param)
    return state

  def update(matrix: Matrix, grad, state, param, count):
    del param
    blocks = grid(matrix)
    t = (count + 1).astype(jnp.float32)
    g = blocks.cut(matrix.fold(grad))
    outer = {"left": g @ transpose(g), "right": transpose(g) @ g}
    # A mean divides by the sum of its weights; a sum does not.
    fresh, weight = (1 - b2, 1 - b2**t) if b2 < 1 else (1, 1)
    stats = jax.tree.map(
      lambda old, new: b2 * old + fresh * new, state["stats"], outer
    )
    roots = jax.lax.cond(
      count % options.every == 0,
      lambda _: jax.tree.map(
        lambda a: inverse_root(a / weight, options.eps), stats
      ),
      lambda _: state["roots"],
      None,
    )
    mean = b1 * state["mean"] + (1 - b1) * grad
    state = {"mean": mean, "stats": stats, "roots": roots} | {
      name: b2 * old + (1 - b2) * jnp.square(grad)
      for name, old in state.items()
      if name == "square"
    }
    mean /= 1 - b1**t
    m = blocks.cut(matrix.fold(mean))
    direction = blocks.join(roots["left"] @ m @ roots["right"])
    if options.graft != "none":
      other = mean
      if options.graft == "adam":
        other /= jnp.sqrt(state["square"] / weight) + 1e-8
      length = frobenius(direction)
      length = jnp.where(length > 0, length, 1)
      direction *= frobenius(matrix.fold(other)) / length
    return matrix.unfold(direction), state

  rest_b2 = b2 if b2 < 1 else 0.999
  adam = optax.scale_by_adam(b1, rest_b2)
  return apart("shampoo", specs, init, update, adam)
