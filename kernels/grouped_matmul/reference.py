"""Grouped matmul, every row by every matrix: the oracle."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def grouped_matmul(
  x_MD: Float[Array, "M D"],
  w_EDF: Float[Array, "E D F"],
  sizes_E: Int[Array, " E"],
) -> Float[Array, "M F"]:
  """y[m] = x[m] w[e], where e is the group of row m; 0 beyond the groups."""
  rows_M = jnp.arange(x_MD.shape[0])
  group_M = jnp.searchsorted(jnp.cumsum(sizes_E), rows_M, side="right")
  all_MEF = jnp.einsum("MD,EDF->MEF", x_MD, w_EDF)
  its_ME = jax.nn.one_hot(group_M, w_EDF.shape[0], dtype=x_MD.dtype)
  return jnp.einsum("ME,MEF->MF", its_ME, all_MEF)
