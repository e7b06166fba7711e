"""Expert choice: experts choose tokens (Zhou et al. 2022, arXiv:2202.09368)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import Router, Routing
from .balance import Small, keep_small

Options = Small


class ExpertChoice(Router):
  """p = softmax(W x); each expert takes its top_k T / E best of a row.

  The load is even by construction; a token has from no expert to all of them.
  It is chosen against later tokens, so that no text can be generated. The
  paper chooses among the tokens of the whole batch.
  """

  causal = False

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    del ctx
    E, k = self.mixture.n_experts, self.mixture.top_k
    B, T, _ = x_BTD.shape
    logits_BTE = self.logits(x_BTD)
    keep_small(
      self, self.config.options("expert_choice", Options()), logits_BTE, real_BT
    )
    p_BTE = jax.nn.softmax(logits_BTE)
    offered_BET = jnp.where(real_BT[..., None], p_BTE, -1).swapaxes(1, 2)
    capacity = min(T, math.ceil(k * T / E))
    tokens_BEC = jax.lax.top_k(offered_BET, capacity)[1]
    row, expert = jnp.ogrid[:B, :E]
    chosen_BTE = jnp.zeros((B, T, E), bool)
    at = row[..., None], tokens_BEC, expert[..., None]
    chosen_BTE = chosen_BTE.at[at].set(True)
    experts_BTE = jnp.where(chosen_BTE, jnp.arange(E), E)
    return Routing(experts_BTE, p_BTE, p_BTE, capacity)
