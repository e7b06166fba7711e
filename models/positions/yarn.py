"""YaRN (Peng et al. 2023, arXiv:2309.00071)."""

import dataclasses
import math

import jax.numpy as jnp

from ...errors import UserError
from .rope import RoPE, Scaled


@dataclasses.dataclass(frozen=True)
class Options(Scaled):
  beta_fast: float = 32.0  # turns in original_len from which a pair is kept
  beta_slow: float = 1.0  # turns up to which it is interpolated whole
  # Of turned vectors; 0: 0.1 ln(factor) + 1, the paper's. DeepSeek has others.
  attention_factor: float = 0.0
  truncate: bool = True  # the ramp's ends are whole numbers of pairs

  def __post_init__(self):
    super().__post_init__()
    if self.rope_theta <= 1:
      raise UserError(f"rope_theta={self.rope_theta} must be above 1")
    if self.attention_factor < 0:
      raise UserError(
        f"attention_factor={self.attention_factor} must be positive, or 0 for"
        " the paper's"
      )
    if not 0 < self.beta_slow < self.beta_fast:
      raise UserError(
        f"beta_slow={self.beta_slow} must be positive and below"
        f" beta_fast={self.beta_fast}"
      )


class YaRN(RoPE):
  """Interpolates slow pairs, keeps fast ones, and sharpens the softmax.

  Between them goes a ramp over the number of the pair (section 3.2), and what
  is turned of queries and keys is multiplied by sqrt(1/t) = 0.1 ln(factor) + 1
  (3.4): all of a head, or the part that `fraction` or MLA leaves to positions.
  """

  word = "yarn"
  option_type = Options

  def _pair(self, turns: float, R: int) -> float:
    """The number of the pair that turns so often in `original_len`."""
    ratio = self.original_len / (turns * 2 * math.pi)
    return R * math.log(ratio) / (2 * math.log(self.options.rope_theta))

  def frequencies(self, R, lengths_BT):
    o = self.options
    kept = super().frequencies(R, lengths_BT)
    low, high = self._pair(o.beta_fast, R), self._pair(o.beta_slow, R)
    if o.truncate:
      low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, R - 1)
    high = high if high > low else low + 0.001
    ramp_r = (jnp.arange(R // 2, dtype=jnp.float32) - low) / (high - low)
    slow_r = jnp.clip(ramp_r, 0, 1)
    return kept / o.factor * slow_r + kept * (1 - slow_r)

  @property
  def amplitude(self):
    o = self.options
    return o.attention_factor or 0.1 * math.log(o.factor) + 1
