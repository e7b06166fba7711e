"""DeBERTa's disentangled attention (He et al. 2020, arXiv:2006.03654)."""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, normal
from . import Asked, Position
from .transformer_xl import at_distance


@dataclasses.dataclass(frozen=True)
class Options:
  max_distance: int = 512  # k; distances beyond it count as it
  buckets: int = 0  # DeBERTa v2: of logarithmic width, a side; 0: one each

  def __post_init__(self):
    if self.max_distance < 2:
      raise UserError(f"max_distance={self.max_distance} must be at least 2")
    if self.buckets and not 4 <= self.buckets <= self.max_distance:
      raise UserError(
        f"buckets={self.buckets} must be 0, for one to each distance, or from"
        f" 4 to max_distance={self.max_distance}"
      )

  @property
  def side(self) -> int:
    """k of the paper: the table has 2k rows."""
    return self.buckets or self.max_distance


def index(ago: Int[Array, "..."], options: Options) -> Int[Array, "..."]:
  """delta(i, j), the row of the table for i - j = `ago`; equation 3.

  With buckets, distances of up to half of them are exact and the rest
  logarithmic, as in DeBERTa v2.
  """
  k = options.side
  if options.buckets:
    exact = k // 2
    away = jnp.abs(ago)
    steps = (exact - 1) / math.log((options.max_distance - 1) / exact)
    ratio = jnp.maximum(away, exact).astype(jnp.float32) / exact
    far = exact + jnp.ceil(jnp.log(ratio) * steps).astype(jnp.int32)
    ago = jnp.where(away <= exact, ago, jnp.sign(ago) * far)
  return jnp.clip(ago + k, 0, 2 * k - 1)


class Table(nn.Module):
  """A vector for each distance, which all layers share."""

  config: ModelConfig

  @nn.compact
  def __call__(self):
    c = self.config
    shape = (2 * c.options("deberta", Options()).side, c.d_model)
    init = normal(c.init_scale)  # its projections then start as others do
    axes, roles = ("buckets", "embed"), ("in", "out")
    return declare(self, "table", init, shape, axes, c.param_dtype, roles)


class DeBERTa(Position):
  """Content to content, to position, and position to content; section 3.1.

  Scores are divided by sqrt(3 H). Each layer projects the table of distances
  by matrices of its own. Both terms have the row delta(i, j), as in the code of
  the authors and in all weights that it trained; the paper writes delta(j, i)
  for the second.
  """

  word = "deberta"
  of_scores = True
  mup = False
  of_content = True

  @classmethod
  def once(cls, config: ModelConfig) -> nn.Module:
    return Table(config, name=cls.word)

  @nn.compact
  def scores(self, asked: Asked) -> Pairs:
    c = self.config
    options = c.options("deberta", Options())
    N, H = asked.q_BTNH.shape[2:]
    K, D = asked.k_BSKH.shape[2], c.d_model
    table_1MD = asked.shared[None].astype(asked.q_BTNH.dtype)
    axes = ("embed", "heads", "head_dim")
    q_MNH, k_MNH = (
      Projection(c, "BTD,DNH->BTNH", (D, N, H), axes, name=name)(table_1MD)[0]
      for name in ("q", "k")
    )
    scale = asked.scale / math.sqrt(3)

    def disentangled(s_BNTS, of_queries, of_keys, shared):
      q_BT, q_BTNH = of_queries
      k_BS, k_BSNH = of_keys
      q_MNH, k_MNH = shared
      ago_BTS = q_BT[:, :, None] - k_BS[:, None, :]
      content_BNTM = jnp.einsum(
        "BTNH,MNH->BNTM", q_BTNH, k_MNH, preferred_element_type=jnp.float32
      )
      to_position = at_distance(content_BNTM, index(ago_BTS, options))
      content_BNSM = jnp.einsum(
        "BSNH,MNH->BNSM", k_BSNH, q_MNH, preferred_element_type=jnp.float32
      )
      back_BST = index(jnp.swapaxes(ago_BTS, 1, 2), options)
      to_content = jnp.swapaxes(at_distance(content_BNSM, back_BST), 2, 3)
      return s_BNTS * 3**-0.5 + scale * (to_position + to_content)

    k_BSNH = jnp.repeat(asked.k_BSKH, N // K, axis=2)
    return Pairs(
      disentangled,
      (asked.q_positions_BT, asked.q_BTNH),
      (asked.k_positions_BS, k_BSNH),
      (q_MNH, k_MNH),
    )
