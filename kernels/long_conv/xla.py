"""Long convolutions by halves of blocks: O(T log^2 T), exact for documents.

Small halves by products with Toeplitz matrices, large ones by Fourier
transforms of twice their size: what wraps around falls on the left half, which
is not read.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import reference
from .halves import fit, halves, middle, of_right, sizes, toeplitz

FEW = 8  # outputs, for which every slot is read
NEAR = 64  # slots of the largest half that products with matrices are for


@jax.named_scope("long_conv")
def long_conv(
  u_BSE: Float[Array, "B S E"],
  h_LE: Float[Array, "L E"],
  starts_BS: Bool[Array, "B S"] | None = None,
  offset: int | Int[Array, ""] = 0,
  length: int = 0,
  *,
  near: int = NEAR,
) -> Float[Array, "B T E"]:
  """As the reference.

  A row that is known to be one document takes one transform of twice its size.
  Rounding is then that of the row's largest input, later ones among them.

  Args:
    near: slots of the largest half that products with matrices are for.
  """
  S = u_BSE.shape[1]
  T = length or S
  if T <= FEW:
    return reference.long_conv(u_BSE, h_LE, starts_BS, offset, T)
  u_EBS = u_BSE.astype(jnp.float32).transpose(2, 0, 1)
  h_EL = h_LE.astype(jnp.float32).T
  if starts_BS is None:
    y_EBS = convolved(2 * S, fit(h_EL, S, 1), u_EBS)[..., :S]
  else:
    of_BS = jnp.cumsum(starts_BS, axis=1, dtype=jnp.int32)
    y_EBS = h_EL[:, :1, None] * u_EBS
    for c in sizes(1, S):
      form = _by_products if c <= near else _by_transforms
      # Computed again for the gradient: all that is kept is u and h.
      across = jax.checkpoint(functools.partial(_across, form, c))
      y_EBS += across(u_EBS, h_EL, of_BS)
  y_BSE = y_EBS.transpose(1, 2, 0)
  return jax.lax.dynamic_slice_in_dim(y_BSE, offset, T, axis=1)


def _across(form, c, u_EBS, h_EL, of_BS):
  """What right halves of blocks of 2 c slots hear of left ones."""
  left_BnC, right_BnC = middle(of_BS, c)
  u_EBnC, _ = halves(u_EBS, c, 2)
  u_EBnC = jnp.where(left_BnC, u_EBnC, 0)
  y_EBnC = form(u_EBnC, fit(h_EL, 2 * c, 1))
  y_EBnC = jnp.where(right_BnC, y_EBnC, 0)
  return of_right(y_EBnC, u_EBS.shape[2], 2)


def _by_products(u_EBnC, h_EM):
  h_EIJ = toeplitz(h_EM, u_EBnC.shape[-1])
  return jnp.einsum("EIJ,EBnJ->EBnI", h_EIJ, u_EBnC)


def _by_transforms(u_EBnC, h_EM):
  C = u_EBnC.shape[-1]
  return convolved(2 * C, h_EM, u_EBnC)[..., C:]


def _convolved(
  size: int, h_XL: Float[Array, "X L"], u_XBnC: Float[Array, "X B *n C"]
) -> Float[Array, "X B *n M"]:
  """The circular convolution of `size` along the last axis."""
  waves_XBnF = jnp.fft.rfft(u_XBnC, size) * _waves(size, h_XL, u_XBnC.ndim)
  return jnp.fft.irfft(waves_XBnF, size)


def _waves(size, h_XL, axes):
  waves_XF = jnp.fft.rfft(h_XL, size)
  return jnp.expand_dims(waves_XF, tuple(range(1, axes - 1)))


def _forward(size, h_XL, u_XBnC):
  return _convolved(size, h_XL, u_XBnC), (h_XL, u_XBnC)


def _backward(size, kept, dy_XBnM):
  """Correlations; JAX's own transpose of a real transform is a complex one."""
  (h_XL, u_XBnC), axes = kept, dy_XBnM.ndim
  dy_XBnF = jnp.fft.rfft(dy_XBnM)
  du_XBnF = dy_XBnF * _waves(size, h_XL, axes).conj()
  du_XBnC = jnp.fft.irfft(du_XBnF, size)[..., : u_XBnC.shape[-1]]
  dh_XBnF = dy_XBnF * jnp.fft.rfft(u_XBnC, size).conj()
  dh_XF = dh_XBnF.sum(tuple(range(1, axes - 1)))
  return jnp.fft.irfft(dh_XF, size)[:, : h_XL.shape[1]], du_XBnC


convolved = jax.custom_vjp(_convolved, nondiff_argnums=(0,))
convolved.defvjp(_forward, _backward)
