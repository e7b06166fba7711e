"""Grouped matmul with a copy of its matrix for each row: the oracle."""

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
  E = w_EDF.shape[0]
  # fp32: the gradient of a matrix adds up that of each of its copies.
  w_MDF = w_EDF.astype(jnp.float32)[jnp.minimum(group_M, E - 1)]
  y_MF = jnp.einsum("MD,MDF->MF", x_MD.astype(jnp.float32), w_MDF)
  return jnp.where((group_M < E)[:, None], y_MF, 0).astype(x_MD.dtype)
