"""Chunked linear cross-entropy (as in Hsu et al. 2024, arXiv:2410.10989).

The loss is a sum with a scalar cotangent, so each chunk's gradient is made in
the forward pass, while its logits are at hand, and only scaled in the
backward one: no logits are kept or computed twice. In float16 the gradient is
kept in a unit of its own, since a loss scale only comes with the cotangent.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from . import Sums


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

  def split(a: Array) -> Array:
    widths = [(0, 0), (0, pad), (0, 0)][: a.ndim]
    a = jnp.pad(a, widths)
    a = a.reshape(a.shape[0], -1, chunk, *a.shape[2:])
    return jnp.moveaxis(a, 1, 0)

  # Any: custom_vjp hides the type of the result.
  result: Any = _loss(
    split(x_BTD),
    w_VD,
    split(targets_BT),
    split(weights_BT),
    (z_loss, label_smoothing, soft_cap),
  )
  loss, sums = result
  return loss, jax.tree.map(jax.lax.stop_gradient, sums)


def _from_logits(
  logits_BCV, targets_BC, weights_BC, z_loss, smoothing, soft_cap
):
  """The weighted sum of the loss, and (sums, loss of each token)."""
  if soft_cap:
    logits_BCV = soft_cap * jnp.tanh(logits_BCV / soft_cap)
  log_z_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
  target_BC = jnp.take_along_axis(logits_BCV, targets_BC[..., None], -1)[..., 0]
  nll_BC = log_z_BC - target_BC
  token_BC = nll_BC + z_loss * log_z_BC**2
  if smoothing:
    token_BC += smoothing * (target_BC - logits_BCV.mean(-1))
  sums = Sums(
    (weights_BC * nll_BC).sum(),
    (weights_BC * log_z_BC**2).sum(),
    (weights_BC * (target_BC >= logits_BCV.max(-1))).sum(),
  )
  return (weights_BC * token_BC).sum(), (sums, token_BC)


def _chunk_loss(x_BCD, w_VD, targets_BC, weights_BC, options, grad):
  """One chunk's loss and sums and, if `grad`, d loss / d (x, w, weights)."""
  # fp32: a bf16 log Z is off by about 1e-2 at V > 32k.
  logits_BCV = jnp.einsum(
    "BCD,VD->BCV", x_BCD, w_VD, preferred_element_type=jnp.float32
  )
  if not grad:
    loss, (sums, _) = _from_logits(logits_BCV, targets_BC, weights_BC, *options)
    return loss, sums, None
  (loss, (sums, token_BC)), g_BCV = jax.value_and_grad(
    _from_logits, has_aux=True
  )(logits_BCV, targets_BC, weights_BC, *options)
  g_BCV = g_BCV.astype(x_BCD.dtype)
  dx_BCD = jnp.einsum("BCV,VD->BCD", g_BCV, w_VD)
  dw_VD = jnp.einsum(
    "BCV,BCD->VD", g_BCV, x_BCD, preferred_element_type=jnp.float32
  )
  return loss, sums, (dx_BCD, dw_VD, token_BC)


def _scan(x, w, targets, weights, options, grad):
  w_cast = w.astype(x.dtype)

  def step(carry, chunk):
    x_BCD, targets_BC, weights_BC = chunk
    loss, sums, grads = _chunk_loss(
      x_BCD, w_cast, targets_BC, weights_BC, options, grad
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(x, w, targets, weights, options):
  (loss, sums, _), _ = _scan(x, w, targets, weights, options, False)
  return loss, sums


def _unit(weights: Array) -> Array:
  """A power of two by which gradients are divided while they are float16.

  The loss is linear in the weights: divided by this, the largest one is in
  [256, 512), a logit's gradient at most that, and a probability of 1e-9 still
  a float16. A loss scale comes too late for them, with the cotangent.
  """
  largest = jnp.max(jnp.abs(weights))
  _, exponent = jnp.frexp(jnp.where(largest > 0, largest, 1.0))
  return jnp.ldexp(1.0, exponent - 9)


def _forward(x, w, targets, weights, options):
  unit = _unit(weights) if x.dtype == jnp.float16 else 1.0
  (loss, sums, dw), (dx, dweights) = _scan(
    x, w, targets, weights / unit, options, True
  )
  out = jax.tree.map(lambda a: a * unit, (loss, sums))
  return out, (dx, dw.astype(w.dtype), dweights, unit)


def _backward(options, residuals, cotangents):
  del options
  dx, dw, dweights, unit = residuals
  g = cotangents[0]
  # fp32: a loss scale of 65536 is more than a float16 can be.
  dx = ((g * unit) * dx.astype(jnp.float32)).astype(dx.dtype)
  return dx, (g * unit).astype(dw.dtype) * dw, None, g * dweights


_loss.defvjp(_forward, _backward)
