"""LongRoPE (Ding et al. 2024, arXiv:2402.13753).

The factors of each pair come from the paper's search; without them all pairs
are interpolated by `factor`. A row up to `original_len` has the short ones.
"""

import dataclasses
import math

import jax.numpy as jnp

from ...errors import UserError
from .rope import RoPE, Scaled


@dataclasses.dataclass(frozen=True)
class Options(Scaled):
  short_factors: tuple[float, ...] = (1.0,)  # of each pair, or one for all
  long_factors: tuple[float, ...] = (0.0,)  # likewise; 0: `factor`
  # Of turned vectors; 0: sqrt(1 + ln(factor) / ln(original_len)).
  attention_factor: float = 0.0


class LongRoPE(RoPE):
  """RoPE with a divisor for each pair: one set for short rows, one for long."""

  word = "longrope"
  option_type = Options

  def _factors(self, key: str, R: int):
    factors = getattr(self.options, key)
    if len(factors) == 1:
      factors *= R // 2
    if len(factors) != R // 2:
      raise UserError(
        f"model.opts.longrope.{key} has {len(factors)} factors, and a head has"
        f" {R // 2} pairs; give one for each, or one for all"
      )
    return jnp.array([f or self.options.factor for f in factors], jnp.float32)

  def frequencies(self, R, length_B):
    kept = super().frequencies(R, length_B)
    short_r = self._factors("short_factors", R)
    long_r = self._factors("long_factors", R)
    if length_B is None:
      return kept / short_r
    is_long_B1 = (length_B > self.original_len)[:, None]
    return kept / jnp.where(is_long_B1, long_r, short_r)

  def amplitude(self, length_B):
    del length_B
    o = self.options
    if o.attention_factor or o.factor == 1:
      return o.attention_factor or 1.0
    return math.sqrt(1 + math.log(o.factor) / math.log(self.original_len))
