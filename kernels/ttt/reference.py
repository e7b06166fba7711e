"""The inner loop of TTT-Linear a token at a time: the oracle."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..by_chunks import by_tokens
from . import EPS, Learner, State


def ttt(
  q_BTNK: Float[Array, "B T N K"],
  k_BTNK: Float[Array, "B T N K"],
  v_BTNV: Float[Array, "B T N V"],
  rate_BTN: Float[Array, "B T N"],
  place_BT: Int[Array, "B T"],
  starts_BT: Bool[Array, "B T"],
  learner: Learner,
  state: State,
) -> tuple[Float[Array, "B T N V"], State]:
  """Outputs of all tokens, and the state after the last one."""

  def f(W_BNKV, x_BNK):
    z_BNV = jnp.einsum("BNK,BNKV->BNV", x_BNK, W_BNKV)
    z_BNV -= z_BNV.mean(-1, keepdims=True)
    z_BNV /= jnp.sqrt(jnp.square(z_BNV).mean(-1, keepdims=True) + EPS)
    return learner.scale_NV * z_BNV + learner.bias_NV

  def loss(W_BNKV, k_BNK, v_BNV):
    return jnp.square(f(W_BNKV, k_BNK) - v_BNV).sum() / 2

  def step(state, token):
    q_BNK, k_BNK, v_BNV, rate_BN, place_B, starts_B = token
    moved_BNKV, sum_BNKV = state
    first, starts = (
      here_B[:, None, None, None] for here_B in (place_B == 0, starts_B)
    )
    stays_BNKV = moved_BNKV - learner.share_Q[-1] * sum_BNKV
    moved_BNKV = jnp.where(first, stays_BNKV, moved_BNKV)
    moved_BNKV = jnp.where(starts, 0, moved_BNKV)
    sum_BNKV = jnp.where(first | starts, 0, sum_BNKV)
    U_BNKV = learner.weights_NKV + moved_BNKV
    gradient_BNKV = jax.grad(loss)(U_BNKV, k_BNK, v_BNV)
    sum_BNKV += rate_BN[..., None, None] * gradient_BNKV
    share = learner.share_Q[place_B][:, None, None, None]
    o_BNV = f(U_BNKV - share * sum_BNKV, q_BNK)
    return State(moved_BNKV, sum_BNKV), o_BNV

  arrays = (q_BTNK, k_BTNK, v_BTNV, rate_BTN, place_BT, starts_BT)
  return by_tokens(step, state, arrays)
