"""Sampling by Gumbel noise (Maddison et al. 2014, arXiv:1411.0030).

argmax_v (logits_v + G_v) is a draw from softmax(logits) where the G_v are
independent standard Gumbel variables.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from .context import hash32


def gumbel_argmax(
  x_BTD: Float[Array, "B T D"],
  w_VD: Float[Array, "V D"],
  seed: UInt32[Array, ""],
  example_ids_B: Int[Array, " B"],
  *,
  soft_cap: float = 0.0,
  chunk: int = 0,
) -> Int[Array, "B T"]:
  """A token from softmax(x w^T) at each slot, `chunk` slots at a time.

  The noise hashes (seed, example, slot, token): microbatches, meshes and
  chunks all draw the tokens of one big batch. No gradient flows through it.

  Args:
    seed: one word, a fresh one for each draw.
    example_ids_B: the example's number in the global batch.
    chunk: slots whose logits are held at a time; 0: all.
  """
  B, T, _ = x_BTD.shape
  V = w_VD.shape[0]
  chunk = min(chunk, T) or T
  x_BTD = jnp.pad(x_BTD, [(0, 0), (0, -T % chunk), (0, 0)])
  w_VD = w_VD.astype(x_BTD.dtype)
  row_B = hash32(hash32(seed) + example_ids_B.astype(jnp.uint32))

  def draw(start):
    x_BCD = jax.lax.dynamic_slice_in_dim(x_BTD, start, chunk, axis=1)
    logits_BCV = jnp.einsum(
      "BCD,VD->BCV", x_BCD, w_VD, preferred_element_type=jnp.float32
    )
    if soft_cap:
      logits_BCV = soft_cap * jnp.tanh(logits_BCV / soft_cap)
    slot_C = (start + jnp.arange(chunk)).astype(jnp.uint32)
    slot_BC = hash32(row_B[:, None] + slot_C)
    token_V = jnp.arange(V, dtype=jnp.uint32)
    bits_BCV = hash32(slot_BC[..., None] + token_V)
    # -log(E) of an exponential variable E = -log(1 - u). The winner has a
    # small u, where fp32 is finest: u in (0, 1] by steps of 2^-32.
    u_BCV = (bits_BCV.astype(jnp.float32) + 0.5) * 2.0**-32
    gumbel_BCV = -jnp.log(-jnp.log1p(-u_BCV))
    return jnp.argmax(logits_BCV + gumbel_BCV, axis=-1)

  starts = jnp.arange(0, x_BTD.shape[1], chunk)
  targets_SBC = jax.lax.stop_gradient(jax.lax.map(draw, starts))
  targets_BT = jnp.moveaxis(targets_SBC, 0, 1).reshape(B, -1)
  return targets_BT[:, :T].astype(jnp.int32)
