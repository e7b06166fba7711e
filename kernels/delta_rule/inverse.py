"""(I - A)^(-1) of a matrix A that is 0 on and above its diagonal.

By halves: [[T1, 0], [T2 A21 T1, T2]] from the inverses of the two. All of it is
matrix products, where a triangular solve goes row by row. A series in powers of
A would be too, but its terms may be 10^18 times its sum; here it is used for
blocks of 4 alone, whose fourth power is 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LEAST = 4


@jax.custom_vjp
def inverse(A_BNCC: Float[Array, "B N C C"]) -> Float[Array, "B N C C"]:
  """The inverse, for any C; A's upper half is not looked at."""
  C = A_BNCC.shape[-1]
  n = LEAST
  while n < C:
    n *= 2
  pad = (0, n - C)
  A_BNCC = jnp.pad(jnp.tril(A_BNCC, -1), ((0, 0), (0, 0), pad, pad))

  def blocks(s):
    """[B, N, n / s, s, s]: those on the diagonal."""
    ends = range(s, n + 1, s)
    return jnp.stack([A_BNCC[..., i - s : i, i - s : i] for i in ends], axis=2)

  A = blocks(LEAST)
  eye = jnp.eye(LEAST, dtype=A.dtype)
  T = (eye + A) @ (eye + A @ A)
  s = LEAST
  while s < n:
    T = T.reshape(*T.shape[:2], -1, 2, s, s)
    T1, T2 = T[:, :, :, 0], T[:, :, :, 1]
    lower = T2 @ blocks(2 * s)[..., s:, :s] @ T1
    top = jnp.concatenate([T1, jnp.zeros_like(T1)], axis=-1)
    T = jnp.concatenate([top, jnp.concatenate([lower, T2], -1)], axis=-2)
    s *= 2
  return T[:, :, 0, :C, :C]


def _forward(A_BNCC):
  T_BNCC = inverse(A_BNCC)
  return T_BNCC, T_BNCC


def _backward(T_BNCC, dT_BNCC):
  T_BNCC = jnp.swapaxes(T_BNCC, 2, 3)
  return (jnp.tril(T_BNCC @ dT_BNCC @ T_BNCC, -1),)


inverse.defvjp(_forward, _backward)
