"""Long convolutions of heads, by halves of blocks.

What a query takes of the half before its own is either a sum over pairs, as in
attention, with the filter in the place of a softmax; or one over convolutions
of k_s v_s^T. With halves of C slots the first costs C (K + V) products a token,
the second the transforms of K V numbers: it is for long halves and small heads.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from . import reference
from .halves import fit, halves, middle, of_right, sizes, toeplitz
from .xla import FEW, convolved

NEAR = 64  # slots of the smallest blocks, in which all pairs are computed
TILE = 256  # of a right half, whose scores are held at a time
# In products of a matmul, measured on a CPU: what a pair costs besides its
# K + V, as its score passes through memory, and a number's transforms.
SCORE, TRANSFORM = 16, 100


@jax.named_scope("head_conv")
def head_conv(
  q_BTNK: Float[Array, "B T N K"],
  k_BSNK: Float[Array, "B S N K"],
  v_BSNV: Float[Array, "B S N V"],
  h_LN: Float[Array, "L N"],
  starts_BS: Bool[Array, "B S"] | None = None,
  offset: int | Int[Array, ""] = 0,
  *,
  transform: int = TRANSFORM,
  near: int = NEAR,
) -> Float[Array, "B T N V"]:
  """As the reference.

  Args:
    transform: as many products cost as much as a number's transforms.
    near: slots of the smallest blocks, a power of two.
  """
  (T, _, K), (B, S, N, V) = q_BTNK.shape[1:], v_BSNV.shape
  if T <= FEW:
    return reference.head_conv(q_BTNK, k_BSNK, v_BSNV, h_LN, starts_BS, offset)
  if T < S:
    q_BTNK = jax.lax.dynamic_update_slice_in_dim(
      jnp.zeros((B, S, N, K), q_BTNK.dtype), q_BTNK, offset, axis=1
    )
  of_BS = jnp.zeros((B, S), jnp.int32)
  if starts_BS is not None:
    of_BS = jnp.cumsum(starts_BS, axis=1, dtype=jnp.int32)
  by_head = [
    a.astype(jnp.float32).transpose(2, 0, 1, 3)
    for a in (q_BTNK, k_BSNK, v_BSNV)
  ]
  arrays = (*by_head, h_LN.astype(jnp.float32).T, of_BS)
  # Computed again for the gradient: all that is kept is these arrays.
  within = jax.checkpoint(functools.partial(_within, min(near, S)))
  y_NBSV = within(*arrays)
  for c in sizes(near, S):
    by_pairs = c * (K + V + SCORE) <= transform * K * V
    form = _by_pairs if by_pairs else _by_transforms
    across = jax.checkpoint(functools.partial(_across, form, c))
    y_NBSV += across(*arrays)
  y_BSNV = y_NBSV.transpose(1, 2, 0, 3)
  return jax.lax.dynamic_slice_in_dim(y_BSNV, offset, T, axis=1)


def _within(C, q_NBSK, k_NBSK, v_NBSV, h_NL, of_BS):
  """All pairs of each block of C slots."""
  S = of_BS.shape[1]
  n = -(-S // C)

  def cut(a, axis):
    a = fit(a, n * C, axis)
    return a.reshape(*a.shape[:axis], n, C, *a.shape[axis + 1 :])

  q_NBnIK, k_NBnJK, v_NBnJV = (cut(a, 2) for a in (q_NBSK, k_NBSK, v_NBSV))
  of_BnC = cut(of_BS, 1)
  same_BnIJ = of_BnC[..., :, None] == of_BnC[..., None, :]
  h_NM = jnp.pad(fit(h_NL, C, 1), ((0, 0), (C, 0)))  # nothing of later slots
  y_NBnIV = _attended(q_NBnIK, k_NBnJK, v_NBnJV, h_NM, same_BnIJ)
  return fit(y_NBnIV.reshape(*v_NBSV.shape[:2], n * C, -1), S, 2)


def _attended(q_NBnIK, k_NBnJK, v_NBnJV, h_NM, same_BnIJ: Array | bool = True):
  scores_NBnIJ = jnp.einsum("NBnIK,NBnJK->NBnIJ", q_NBnIK, k_NBnJK)
  h_NIJ = toeplitz(h_NM, q_NBnIK.shape[3])
  scores_NBnIJ = jnp.where(same_BnIJ, scores_NBnIJ * h_NIJ[:, None, None], 0)
  return jnp.einsum("NBnIJ,NBnJV->NBnIV", scores_NBnIJ, v_NBnJV)


def _across(form, c, q_NBSK, k_NBSK, v_NBSV, h_NL, of_BS):
  """What right halves of blocks of 2 c slots hear of left ones."""
  left_BnC, right_BnC = middle(of_BS, c)
  _, q_NBnCK = halves(q_NBSK, c, 2)
  (k_NBnCK, _), (v_NBnCV, _) = (halves(a, c, 2) for a in (k_NBSK, v_NBSV))
  q_NBnCK = jnp.where(right_BnC[..., None], q_NBnCK, 0)
  k_NBnCK = jnp.where(left_BnC[..., None], k_NBnCK, 0)
  y_NBnCV = form(q_NBnCK, k_NBnCK, v_NBnCV, fit(h_NL, 2 * c, 1))
  return of_right(y_NBnCV, of_BS.shape[1], 2)


def _by_pairs(q_NBnCK, k_NBnCK, v_NBnCV, h_NM):
  """A tile of queries at a time."""
  C = q_NBnCK.shape[3]
  tile = min(TILE, C)

  @jax.checkpoint
  def of_tile(start):
    q_NBnIK = jax.lax.dynamic_slice_in_dim(q_NBnCK, start, tile, axis=3)
    lags_NM = jax.lax.dynamic_slice_in_dim(h_NM, start, C + tile, axis=1)
    return _attended(q_NBnIK, k_NBnCK, v_NBnCV, lags_NM)

  y_tNBnIV = jax.lax.map(of_tile, jnp.arange(0, C, tile))
  return jnp.moveaxis(y_tNBnIV, 0, 3).reshape(v_NBnCV.shape)


def _by_transforms(q_NBnCK, k_NBnCK, v_NBnCV, h_NM):
  """A channel of the values at a time: k_s v_s^T whole would be V times k."""
  C = q_NBnCK.shape[3]
  k_NBnKC = jnp.swapaxes(k_NBnCK, 3, 4)

  @jax.checkpoint
  def of_channel(v_NBnC):
    u_NBnKC = k_NBnKC * v_NBnC[..., None, :]
    y_NBnKC = convolved(2 * C, h_NM, u_NBnKC)[..., C:]
    return jnp.einsum("NBnKC,NBnCK->NBnC", y_NBnKC, q_NBnCK)

  y_VNBnC = jax.lax.map(of_channel, jnp.moveaxis(v_NBnCV, 4, 0))
  return jnp.moveaxis(y_VNBnC, 0, 4)
