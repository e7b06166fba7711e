"""Products in the compute dtype (Kalamkar et al. 2019, arXiv:1905.12322)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..config import ModelConfig


def matmul(
  config: ModelConfig,
  spec: str,
  x: Float[Array, "..."],
  kernel: Float[Array, "..."],
) -> Float[Array, "..."]:
  """einsum(spec, x, kernel); an accelerator adds up in fp32."""
  dtype = jnp.dtype(config.compute_dtype)
  return jnp.einsum(spec, x.astype(dtype), kernel.astype(dtype))
