"""fp8 matrix products (Micikevicius et al. 2022, arXiv:2209.05433).

Activations and weights are rounded to E4M3, gradients to E5M2 (section 3):
each tensor is divided by one scale, so that its largest entry becomes the
format's largest number, and the product is multiplied by the scales in fp32.
The scale is of the tensor at hand ("current scaling"), not of earlier steps:
the function stays pure under remat, loops and accumulation.

One scale for a tensor ties its tokens together: to fp8's rounding an output
depends on the batch it is in, on later tokens too, and microbatches equal one
big batch only as closely.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError
from ...kernels.device import has_fp8
from ..config import ModelConfig

FORWARD, BACKWARD = jnp.float8_e4m3fn, jnp.float8_e5m2


@dataclasses.dataclass(frozen=True)
class Options:
  # Also where the device has no fp8: slow, and rounded to the same numbers.
  emulate: bool = False


def matmul(
  config: ModelConfig,
  spec: str,
  x: Float[Array, "..."],
  kernel: Float[Array, "..."],
) -> Float[Array, "..."]:
  """einsum(spec, x, kernel) of numbers rounded to fp8.

  Raises:
    UserError: the device has no fp8.
  """
  if not (config.options("fp8").emulate or has_fp8()):
    device = jax.devices()[0]
    raise UserError(
      f"model.matmul='fp8' needs an NVIDIA GPU of compute capability 8.9 or"
      f" more, or a TPU from v6e on, and this is {device.device_kind}; use"
      " model.matmul=default, or model.opts.fp8.emulate=true to round to the"
      " same numbers, slowly"
    )
  # The kernel as it is kept: rounded once, and its gradient not at all.
  return _product(spec, x.astype(config.compute_dtype), kernel)


def quantize(
  a: Float[Array, "..."], dtype: Any
) -> tuple[Array, Float[Array, ""]]:
  """a / scale in fp8, and the scale: max |a| / the format's largest number."""
  # fp32: a bf16 scale is off by up to 2^-9, and the largest entry is cut off.
  a = a.astype(jnp.float32)
  limit = float(jnp.finfo(dtype).max)
  scale = jnp.max(jnp.abs(a)) / limit
  # Zeros alone have no scale.
  scale = jnp.maximum(scale, jnp.finfo(jnp.float32).tiny)
  # Not over the limit by a rounding: E4M3 has no infinity, only NaN.
  return jnp.clip(a / scale, -limit, limit).astype(dtype), scale


def contract(spec: str, a: Array, b: Array) -> Float[Array, "..."]:
  """einsum(spec, a, b) in fp32 of operands of two fp8 formats.

  `jnp.einsum` would bring them to one format; the hardware takes both.
  """
  inputs, out = spec.split("->")
  left, right = inputs.split(",")
  batch = [c for c in left if c in right and c in out]
  summed = [c for c in left if c in right and c not in out]
  y = jax.lax.dot_general(
    a,
    b,
    (
      (tuple(map(left.index, summed)), tuple(map(right.index, summed))),
      (tuple(map(left.index, batch)), tuple(map(right.index, batch))),
    ),
    preferred_element_type=jnp.float32,
  )
  made = batch + [c for c in left + right if c in out and c not in batch]
  return y.transpose([made.index(c) for c in out])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(spec, x, kernel):
  return _forward(spec, x, kernel)[0]


def _forward(spec, x, kernel):
  x_8, x_scale = quantize(x, FORWARD)
  kernel_8, kernel_scale = quantize(kernel, FORWARD)
  y = contract(spec, x_8, kernel_8) * (x_scale * kernel_scale)
  # Two empty arrays: a residual can't be a dtype.
  like = jnp.zeros((0,), x.dtype), jnp.zeros((0,), kernel.dtype)
  return y.astype(x.dtype), (x_8, x_scale, kernel_8, kernel_scale, like)


def _backward(spec, residuals, g):
  x_8, x_scale, kernel_8, kernel_scale, like = residuals
  inputs, out = spec.split("->")
  left, right = inputs.split(",")
  g_8, g_scale = quantize(g, BACKWARD)
  dx = contract(f"{out},{right}->{left}", g_8, kernel_8)
  dkernel = contract(f"{left},{out}->{right}", x_8, g_8)
  grads = dx * (g_scale * kernel_scale), dkernel * (x_scale * g_scale)
  return tuple(a.astype(b.dtype) for a, b in zip(grads, like, strict=True))


_product.defvjp(_forward, _backward)
