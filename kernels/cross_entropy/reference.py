"""Softmax cross-entropy with z-loss (Chowdhery et al. 2022, arXiv:2204.02311).

Materialises the logits [B, T, V]: the oracle of the chunked form.
"""

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
  """Sum of weights * (cross-entropy + z_loss * log(Z)^2), in nats."""
  del chunk
  logits = jnp.einsum(
    "BTD,VD->BTV",
    x_BTD,
    w_VD.astype(x_BTD.dtype),
    preferred_element_type=jnp.float32,
  )
  if soft_cap:
    logits = soft_cap * jnp.tanh(logits / soft_cap)
  log_z_BT = jax.nn.logsumexp(logits, axis=-1)
  target_BT = jnp.take_along_axis(logits, targets_BT[..., None], -1)[..., 0]
  smooth_BT = logits.mean(-1)
  ce_BT = log_z_BT - (
    (1 - label_smoothing) * target_BT + label_smoothing * smooth_BT
  )
  loss = (weights_BT * (ce_BT + z_loss * log_z_BT**2)).sum()
  correct_BT = target_BT >= logits.max(-1)
  sums = Sums(
    (weights_BT * (log_z_BT - target_BT)).sum(),
    (weights_BT * log_z_BT**2).sum(),
    (weights_BT * correct_BT).sum(),
  )
  return loss, jax.tree.map(jax.lax.stop_gradient, sums)
