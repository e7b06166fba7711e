"""Hash layers: the word decides (Roller et al. 2021, arXiv:2106.04426)."""

import jax
import jax.numpy as jnp

from ..context import hash32
from . import Router, Routing


class Hash(Router):
  """Experts that are a fixed random function of the token and the layer."""

  def __call__(self, x_BTD, ctx, real_BT):
    del x_BTD, real_BT
    E, k = self.mixture.n_experts, self.mixture.top_k
    assert ctx.tokens_BT is not None, "the decoder gives them"
    layer = jnp.asarray(ctx.layer).astype(jnp.uint32)
    words_BT = hash32(ctx.tokens_BT.astype(jnp.uint32) + hash32(layer))
    first_BT = (words_BT % E).astype(jnp.int32)
    experts_BTk = (first_BT[..., None] + jnp.arange(k)) % E
    scores_BTE = jax.nn.one_hot(experts_BTk, E).mean(2)
    weights_BTk = jnp.full(experts_BTk.shape, 1 / k, jnp.float32)
    return Routing(experts_BTk, weights_BTk, scores_BTE)
