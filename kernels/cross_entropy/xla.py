"""Chunked linear cross-entropy (as in Hsu et al. 2024, arXiv:2410.10989).

The loss is a sum with a scalar cotangent, so each chunk's gradient is made in
the forward pass, while its logits are at hand, and only scaled in the
backward one: no logits are kept or computed twice.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import Sums

_NARGS = (4, 5, 6, 7)


def linear_cross_entropy(
  x_BTD: Float[Array, "B T D"],
  w_VD: Float[Array, "V D"],
  targets_BT: Int[Array, "B T"],
  weights_BT: Float[Array, "B T"],
  *,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  soft_cap: float = 0.0,
  chunk: int = 0,
) -> tuple[Float[Array, ""], Sums]:
  """As the reference, `chunk` positions of T at a time (0: all at once).

  Chunks are taken along T, never along the batch, which a mesh may shard.
  """
  T = x_BTD.shape[1]
  chunk = min(chunk, T) or T
  pad = -T % chunk

  def split(a):
    a = jnp.pad(a, ((0, 0), (0, pad)) + ((0, 0),) * (a.ndim - 2))
    a = a.reshape(a.shape[0], -1, chunk, *a.shape[2:])
    return jnp.moveaxis(a, 1, 0)

  loss, sums = _loss(
    split(x_BTD),
    w_VD,
    split(targets_BT),
    split(weights_BT),
    z_loss,
    label_smoothing,
    soft_cap,
    x_BTD.dtype,
  )
  return loss, jax.tree.map(jax.lax.stop_gradient, sums)


def _chunk_loss(
  x_BCD, w_VD, targets_BC, weights_BC, z_loss, smoothing, soft_cap, grad
):
  """One chunk's loss and sums and, if `grad`, d loss / d (x, w, weights)."""
  # fp32: a bf16 log Z is off by about 1e-2 at V > 32k.
  logits_BCV = jnp.einsum(
    "BCD,VD->BCV", x_BCD, w_VD, preferred_element_type=jnp.float32
  )
  if soft_cap:
    logits_BCV = soft_cap * jnp.tanh(logits_BCV / soft_cap)
  V = w_VD.shape[0]
  hit_BCV = jax.lax.broadcasted_iota(jnp.int32, (1, 1, V), 2) == (
    targets_BC[..., None]
  )
  max_BC = logits_BCV.max(-1)
  exp_BCV = jnp.exp(logits_BCV - max_BC[..., None])
  sum_BC = exp_BCV.sum(-1)
  log_z_BC = jnp.log(sum_BC) + max_BC
  target_BC = jnp.where(hit_BCV, logits_BCV, 0).sum(-1)
  nll_BC = log_z_BC - target_BC
  token_BC = nll_BC + z_loss * log_z_BC**2
  if smoothing:
    token_BC += smoothing * (target_BC - logits_BCV.mean(-1))
  sums = Sums(
    (weights_BC * nll_BC).sum(),
    (weights_BC * log_z_BC**2).sum(),
    (weights_BC * (target_BC >= max_BC)).sum(),
  )
  loss = (weights_BC * token_BC).sum()
  if not grad:
    return loss, sums, None
  scale_BC = weights_BC * (1 + 2 * z_loss * log_z_BC) / sum_BC
  g_BCV = scale_BC[..., None] * exp_BCV - weights_BC[..., None] * (
    (1 - smoothing) * hit_BCV + smoothing / V
  )
  if soft_cap:
    g_BCV *= 1 - (logits_BCV / soft_cap) ** 2
  g_BCV = g_BCV.astype(x_BCD.dtype)
  dx_BCD = jnp.einsum("BCV,VD->BCD", g_BCV, w_VD)
  dw_VD = jnp.einsum(
    "BCV,BCD->VD", g_BCV, x_BCD, preferred_element_type=jnp.float32
  )
  return loss, sums, (dx_BCD, dw_VD, token_BC)


def _scan(x, w, targets, weights, z_loss, smoothing, soft_cap, dtype, grad):
  w_cast = w.astype(dtype)

  def step(carry, chunk):
    x_BCD, targets_BC, weights_BC = chunk
    loss, sums, grads = _chunk_loss(
      x_BCD, w_cast, targets_BC, weights_BC, z_loss, smoothing, soft_cap, grad
    )
    dx, dw, dweights = grads or (None, None, None)
    return jax.tree.map(jnp.add, carry, (loss, sums, dw)), (dx, dweights)

  zero = jnp.zeros((), jnp.float32)
  dw = jnp.zeros(w.shape, jnp.float32) if grad else None
  carry = (zero, Sums(zero, zero, zero), dw)
  if x.shape[0] == 1:  # one chunk needs no loop and no accumulator
    carry, (dx, dweights) = step(
      carry, jax.tree.map(lambda a: a[0], (x, targets, weights))
    )
    stacked = jax.tree.map(lambda a: a[None], (dx, dweights))
  else:
    carry, stacked = jax.lax.scan(step, carry, (x, targets, weights))
  return carry, stacked


@functools.partial(jax.custom_vjp, nondiff_argnums=_NARGS)
def _loss(x, w, targets, weights, z_loss, smoothing, soft_cap, dtype):
  carry, _ = _scan(
    x, w, targets, weights, z_loss, smoothing, soft_cap, dtype, False
  )
  return carry[:2]


def _forward(x, w, targets, weights, z_loss, smoothing, soft_cap, dtype):
  (loss, sums, dw), (dx, dweights) = _scan(
    x, w, targets, weights, z_loss, smoothing, soft_cap, dtype, True
  )
  return (loss, sums), (dx, dw.astype(w.dtype), dweights)


def _backward(z_loss, smoothing, soft_cap, dtype, residuals, cotangents):
  dx, dw, dweights = residuals
  g = cotangents[0]
  return g.astype(dx.dtype) * dx, g.astype(dw.dtype) * dw, None, g * dweights


_loss.defvjp(_forward, _backward)
