"""Llama 3.1's scaling of RoPE (Grattafiori et al. 2024, arXiv:2407.21783).

The formula is that of Meta's code (llama_models, `apply_scaling`).
"""

import dataclasses
import math

import jax.numpy as jnp

from ...errors import UserError
from .rope import RoPE, Scaled


@dataclasses.dataclass(frozen=True)
class Options(Scaled):
  low_freq_factor: float = 1.0  # turns in original_len, up to it interpolated
  high_freq_factor: float = 4.0  # and from it on kept

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.low_freq_factor < self.high_freq_factor:
      raise UserError(
        f"low_freq_factor={self.low_freq_factor} must be positive and below"
        f" high_freq_factor={self.high_freq_factor}"
      )


class Llama3(RoPE):
  """Interpolates slow pairs, keeps fast ones; between, by turns in a text."""

  word = "llama3"
  option_type = Options

  def frequencies(self, R, lengths_BT):
    o = self.options
    kept = super().frequencies(R, lengths_BT)
    turns = self.original_len * kept / (2 * math.pi)
    fast = (turns - o.low_freq_factor) / (
      o.high_freq_factor - o.low_freq_factor
    )
    fast = jnp.clip(fast, 0, 1)
    return kept / o.factor * (1 - fast) + kept * fast
