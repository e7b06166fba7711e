"""Which parameters are matrices, and the optimizers that treat them apart.

What is a matrix is declared with a parameter (`ParamSpec.roles`), not read
from its shape: [D, N, H] that maps D to N heads of H is the matrix D x (N H),
and a norm's scales, stacked over the layers, are none.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ...errors import UserError
from ...models.param import ParamSpec
from .leafwise import leafwise

# LAPACK, which is loaded at its first use, has threads that fight with XLA's
# for the same cores: with both, the eigenvectors of a 352 x 352 matrix take
# 2 s in the place of 10 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@dataclasses.dataclass(frozen=True)
class Matrix:
  """How a parameter is read as matrices [..., I, O] from inputs to outputs."""

  spec: ParamSpec

  def _axes(self, role: str) -> tuple[int, ...]:
    return tuple(i for i, r in enumerate(self.spec.roles) if r == role)

  def _sizes(self, role: str) -> tuple[int, ...]:
    return tuple(self.spec.shape[i] for i in self._axes(role))

  @property
  def n_in(self) -> int:
    return math.prod(self._sizes("in"))

  @property
  def n_out(self) -> int:
    return math.prod(self._sizes("out"))

  @property
  def batch(self) -> tuple[int, ...]:
    """Layers, experts: so many matrices are in the parameter."""
    return self._sizes("batch")

  def has_vocab(self, role: str) -> bool:
    """Whether the side is the vocabulary: a table of embeddings or logits."""
    return any(self.spec.axes[i] == "vocab" for i in self._axes(role))

  @property
  def is_table(self) -> bool:
    return self.has_vocab("in") or self.has_vocab("out")

  def fold(self, a: Float[Array, "..."]) -> Float[Array, "..."]:
    """The parameter, or what has its shape, as [*batch, I, O]."""
    a = a.transpose(*self._axes("batch"), *self._axes("in"), *self._axes("out"))
    return a.reshape(*self.batch, self.n_in, self.n_out)

  def unfold(self, m: Float[Array, "..."]) -> Float[Array, "..."]:
    """The inverse of `fold`."""
    order = (*self._axes("batch"), *self._axes("in"), *self._axes("out"))
    a = m.reshape(*(self.spec.shape[i] for i in order))
    return a.transpose(*np.argsort(order))


def as_matrix(spec: ParamSpec) -> Matrix | None:
  """None for what is no matrix; a matrix of one row or column is a vector."""
  if not spec.roles:
    return None
  matrix = Matrix(spec)
  return matrix if min(matrix.n_in, matrix.n_out) > 1 else None


def apart(
  name: str,
  specs: Any,
  init: Callable[[Matrix, Array], Any],
  update: Callable[..., tuple[Array, Any]],
  rest: optax.GradientTransformation,
  *,
  tables: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """A rule for the matrices, and another optimizer for all else.

  Args:
    name: of the optimizer, for errors.
    init, update: the rule; as those of `leafwise`, on a `Matrix`.
    tables: whether embeddings and output matrices are among the matrices.

  Raises:
    UserError: the model has no matrix.
  """

  def chosen(spec: ParamSpec) -> Matrix | None:
    matrix = as_matrix(spec)
    return None if matrix and matrix.is_table and not tables else matrix

  matrices = jax.tree.map(chosen, specs)
  if not jax.tree.leaves(matrices):
    raise UserError(
      f"opt.name={name!r} is for matrices, and the model has none; use adamw"
    )
  ours = leafwise(init, update, matrices)
  rest = optax.with_extra_args_support(rest)

  def split(tree):
    """(matrices, all else), each with None in the place of the other."""
    mine = jax.tree.map(lambda s, a: a if chosen(s) else None, specs, tree)
    others = jax.tree.map(lambda s, a: None if chosen(s) else a, specs, tree)
    return mine, others

  def init_both(params):
    mine, others = split(params)
    return {"matrices": ours.init(mine), "rest": rest.init(others)}

  def update_both(updates, state, params=None, **extra: Any):
    (mine, theirs), (params, others) = split(updates), split(params)
    mine, matrices = ours.update(mine, state["matrices"], params, **extra)
    theirs, rest_state = rest.update(theirs, state["rest"], others, **extra)
    directions = jax.tree.map(
      lambda a, b: b if a is None else a,
      mine,
      theirs,
      is_leaf=lambda a: a is None,
    )
    return directions, {"matrices": matrices, "rest": rest_state}

  return optax.GradientTransformationExtraArgs(init_both, update_both)


def transpose(m: Float[Array, "... I O"]) -> Float[Array, "... O I"]:
  return jnp.swapaxes(m, -1, -2)


def frobenius(m: Float[Array, "... I O"]) -> Float[Array, "... 1 1"]:
  """The Frobenius norm of each matrix."""
  return jnp.sqrt(jnp.sum(jnp.square(m), (-2, -1), keepdims=True))


def each(decompose: Callable[[Array], Any], m: Float[Array, "... N N"]) -> Any:
  """A decomposition, such as `jnp.linalg.eigh`, of each matrix.

  On a CPU one after the other: where batches of them run at once, each waits
  for threads that the others hold, for ever (seen with QR in jaxlib 0.10.2 on
  2 cores), and LAPACK is no faster for a batch.
  """
  flat = m.reshape(-1, *m.shape[-2:])
  results = jax.lax.platform_dependent(
    flat, cpu=lambda a: jax.lax.map(decompose, a), default=decompose
  )
  return jax.tree.map(lambda r: r.reshape(*m.shape[:-2], *r.shape[1:]), results)
