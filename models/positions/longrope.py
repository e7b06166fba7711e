"""LongRoPE (Ding et al. 2024, arXiv:2402.13753).

The factors of each pair come from the paper's search; without them all pairs
are interpolated by `factor`. A document of up to `original_len` tokens has the
short ones, and training is refused beyond. Keys are cached as projected, so
that all have the factors of the length so far.
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

  def __post_init__(self):
    super().__post_init__()
    if min((*self.short_factors, 1.0)) <= 0:
      raise UserError(
        f"short_factors={self.short_factors} must be positive divisors"
      )
    if min((*self.long_factors, self.attention_factor)) < 0:
      raise UserError(
        f"long_factors={self.long_factors} and attention_factor="
        f"{self.attention_factor} must be positive, or 0 for their default"
      )


class LongRoPE(RoPE):
  """RoPE with a divisor for each pair: one set for short rows, one for long."""

  word = "longrope"
  option_type = Options
  of_length = True
  raw_keys = True

  @classmethod
  def check(cls, config, size):
    super().check(config, size)
    position = cls(config)
    position.frequencies(position.dims(size), None)

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

  def frequencies(self, R, lengths_BT):
    kept = super().frequencies(R, lengths_BT)
    short_r = self._factors("short_factors", R)
    long_r = self._factors("long_factors", R)
    if lengths_BT is None:
      return kept / short_r
    is_long_BT1 = (lengths_BT > self.original_len)[..., None]
    return kept / jnp.where(is_long_BT1, long_r, short_r)

  @property
  def amplitude(self):
    o = self.options
    if o.attention_factor or o.factor == 1:
      return o.attention_factor or 1.0
    length = max(2, self.original_len)
    return math.sqrt(1 + math.log(o.factor) / math.log(length))
