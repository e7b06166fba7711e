"""Products in the compute dtype (Kalamkar et al. 2019, arXiv:1905.12322)."""

import functools
from typing import Any

import jax
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
  product: Any = jnp.einsum
  if jax.default_backend() == "cpu":
    product = _cpu_einsum
  return product(spec, x.astype(dtype), kernel.astype(dtype))


# The kernel's gradient contracts the first axes of both operands, and XLA on a
# CPU turns the left one round before the product. JAX's own rule puts a whole
# ffn there, with what makes it, for as long as the product takes; here the
# smaller operand goes left. No forward mode, as with any custom_vjp.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cpu_einsum(spec, x, kernel):
  return jnp.einsum(spec, x, kernel)


def _forward(spec, x, kernel):
  return jnp.einsum(spec, x, kernel), (x, kernel)


def _backward(spec, operands, dy):
  x, kernel = operands
  inputs, letters, out = spec.replace("->", ",").split(",")
  dx = jnp.einsum(f"{out},{letters}->{inputs}", dy, kernel)
  if x.size <= dy.size:
    return dx, jnp.einsum(f"{inputs},{out}->{letters}", x, dy)
  of_dy = [a for a in letters if a in out]
  turned = "".join([*of_dy, *(a for a in letters if a not in out)])
  dkernel = jnp.einsum(f"{out},{inputs}->{turned}", dy, x)
  # Without it XLA makes this and the next line the product above again.
  dkernel = jax.lax.optimization_barrier(dkernel)
  return dx, jnp.einsum(f"{turned}->{letters}", dkernel)


_cpu_einsum.defvjp(_forward, _backward)
