"""TUPE, untied positions (Ke et al. 2020, arXiv:2006.15595)."""

import flax.linen as nn
import jax.numpy as jnp

from ...kernels.flash_attention import Pairs
from ..config import ModelConfig
from ..linear import Projection
from ..norms import NORMS
from ..param import declare, normal
from . import Asked, Position, check_row


class Projected(nn.Module):
  """Queries and keys of all positions, which all layers share."""

  config: ModelConfig

  @nn.compact
  def __call__(self):
    c = self.config
    P, D, N, H = c.max_len, c.d_model, c.n_heads, c.head_dim
    init = normal(c.init_scale * D**-0.5)
    axes, roles = ("positions", "embed"), ("in", "out")
    table = declare(self, "table", init, (P, D), axes, c.param_dtype, roles)
    x_1PD = NORMS["layer_norm"](c, name="norm")(table[None])
    x_1PD = x_1PD.astype(c.compute_dtype)
    axes = ("embed", "heads", "head_dim")
    return tuple(
      Projection(c, "BTD,DNH->BTNH", (D, N, H), axes, name=name)(x_1PD)[0]
      for name in ("q", "k")
    )


def _untied(s_BNTS, of_queries, of_keys, shared):
  del shared
  (q_BTNH,), (k_BSNH,) = of_queries, of_keys
  scale = (2 * q_BTNH.shape[-1]) ** -0.5
  p_BNTS = jnp.einsum(
    "BTNH,BSNH->BNTS", q_BTNH, k_BSNH, preferred_element_type=jnp.float32
  )
  return s_BNTS * 2**-0.5 + p_BNTS * scale


class TUPE(Position):
  """Adds scores of positions alone to those of contents alone; section 3.1.

  Both are divided by sqrt(2 H). Positions have a table of `model.max_len`
  vectors, and projections of their own, once for all layers.
  """

  word = "tupe"
  of_scores = True
  mup = False
  relative = False

  @classmethod
  def once(cls, config: ModelConfig) -> nn.Module:
    return Projected(config, name=cls.word)

  def scores(self, asked: Asked) -> Pairs:
    q_PNH, k_PNH = asked.shared
    check_row(self.word, self.config, asked.q_positions_BT.shape[1])
    of_queries = (q_PNH[asked.q_positions_BT],)
    return Pairs(_untied, of_queries, (k_PNH[asked.k_positions_BS],))
