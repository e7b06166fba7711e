"""T5's relative bias (Raffel et al. 2020, arXiv:1910.10683)."""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from ..config import ModelConfig
from ..param import declare, normal
from . import Asked, Position


@dataclasses.dataclass(frozen=True)
class Options:
  buckets: int = 32  # biases of each head
  max_distance: int = 128  # from which on all share the last bucket

  def __post_init__(self):
    if self.buckets < 4 or self.buckets % 4:
      raise UserError(f"buckets={self.buckets} must be a multiple of 4")
    if self.max_distance <= self.buckets // 2:
      raise UserError(
        f"max_distance={self.max_distance} must be above buckets/2="
        f"{self.buckets // 2}, the distances that have buckets of their own"
      )


def bucket(
  ahead: Int[Array, "..."], causal: bool, buckets: int, max_distance: int
) -> Int[Array, "..."]:
  """The bucket of a key that stands `ahead` of its query (before it: < 0).

  Half the buckets are of one distance each, the other half of ranges that
  grow logarithmically. Not causal, keys ahead have a half of all for their own.
  """
  found = jnp.zeros_like(ahead)
  away = -ahead
  if not causal:
    buckets //= 2
    found = jnp.where(ahead > 0, buckets, 0)
    away = jnp.abs(ahead)
  away = jnp.maximum(away, 0)
  exact = buckets // 2
  steps = (buckets - exact) / math.log(max_distance / exact)
  # The logarithm is of at least 1 where it counts.
  ratio = jnp.maximum(away, exact).astype(jnp.float32) / exact
  far = exact + (jnp.log(ratio) * steps).astype(jnp.int32)
  far = jnp.minimum(far, buckets - 1)
  return found + jnp.where(away < exact, away, far)


class Table(nn.Module):
  """One bias for each bucket and head, which all layers share."""

  config: ModelConfig

  @nn.compact
  def __call__(self):
    c = self.config
    n = c.options("t5", Options()).buckets
    axes, init = ("buckets", "heads"), normal(c.init_scale * c.d_model**-0.5)
    shape = (n, c.n_heads)
    return declare(self, "bias", init, shape, axes, c.param_dtype)


class T5Bias(Position):
  """Adds a learned bias of the distance's bucket to the scores of each head.

  T5 itself does not divide scores by sqrt(H): there model.opts.attention.scale
  is 1.
  """

  word = "t5"
  mup = False

  @classmethod
  def once(cls, config: ModelConfig) -> nn.Module:
    return Table(config, name=cls.word)

  def scores(self, asked: Asked) -> Pairs:
    o = self.config.options("t5", Options())

    def biased(s_BNTS, of_queries, of_keys, shared):
      (q_BT,), (k_BS,), (bias_UN,) = of_queries, of_keys, shared
      ahead_BTS = k_BS[:, None, :] - q_BT[:, :, None]
      found = bucket(ahead_BTS, asked.causal, o.buckets, o.max_distance)
      return s_BNTS + jnp.moveaxis(bias_UN[found], 3, 1).astype(jnp.float32)

    keys = (asked.k_positions_BS,)
    return Pairs(biased, (asked.q_positions_BT,), keys, (asked.shared,))
