"""Grouped matmul: each form is a loop over the groups, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.kernels.dispatch import dispatch
from ablax.kernels.grouped_matmul import reference, xla

PROVES = ("feature:grouped_matmul",)
AGAINST = "float64 loop"

D, F = 12, 10
FORMS = {
  "reference": reference.grouped_matmul,
  "blocked": xla.blocked,
  "ragged": xla.ragged,
}
# Rows a block has are 256, 64 and 16: groups that end in each, and at none.
SIZES = {
  "uneven": (600, (0, 17, 256, 1, 0, 321)),
  "rows beyond": (90, (3, 0, 64, 7)),
  "less than a block": (5, (2, 3)),
  "one takes all": (80, (0, 80, 0)),
  "none": (7, (0, 0)),
}


def exact(x, w, sizes, dy):
  """y, dx and dw by a loop over the groups."""
  y, dx, dw = np.zeros((len(x), F)), np.zeros_like(x), np.zeros_like(w)
  start = 0
  for e, n in enumerate(sizes):
    rows = slice(start, start + n)
    y[rows], dx[rows] = x[rows] @ w[e], dy[rows] @ w[e].T
    dw[e] = x[rows].T @ dy[rows]
    start += n
  return y, dx, dw


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", SIZES)
def test_each_row_meets_the_matrix_of_its_group(case, form, dtype):
  M, sizes = SIZES[case]
  rng = np.random.default_rng(0)
  shapes = ((M, D), (len(sizes), D, F), (M, F))
  x, w, dy = (jnp.asarray(rng.normal(size=s), dtype) for s in shapes)

  @jax.jit
  def run(x, w, sizes, dy):
    y, back = jax.vjp(lambda x, w: FORMS[form](x, w, sizes), x, w)
    return y, *back(dy)

  got = run(x, w, jnp.asarray(sizes), dy)
  as_64 = [np.asarray(a, np.float64) for a in (x, w, dy)]
  want = exact(*as_64[:2], sizes, as_64[2])
  # Sums of up to 321 numbers of size 1, rounded at 2^-24 or once at 2^-8.
  tolerance = {"float32": 1e-5, "bfloat16": 8e-3}[dtype]
  for a, b in zip(got, want, strict=True):
    assert a.dtype == dtype
    np.testing.assert_allclose(
      np.asarray(a, np.float64), b, rtol=0, atol=tolerance * np.abs(b).max()
    )


def test_a_word_is_taken_literally():
  assert dispatch("grouped_matmul", "reference") is reference.grouped_matmul
  with pytest.raises(NotImplementedError, match="grouped_matmul has no such"):
    dispatch("grouped_matmul", "pallas")
