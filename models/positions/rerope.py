"""ReRoPE, rectified rotary positions (Su 2023, kexue.fm/archives/9708)."""

import dataclasses

import jax.numpy as jnp

from ...errors import UserError
from ...kernels.flash_attention import Pairs
from . import Asked
from .rope import Options as RoPEOptions
from .rope import RoPE


@dataclasses.dataclass(frozen=True)
class Options(RoPEOptions):
  window: int = 0  # distances up to it are true; 0: half of model.max_len

  def __post_init__(self):
    super().__post_init__()
    if self.window < 0:
      raise UserError(
        f"window={self.window} must be positive, or 0 for model.max_len / 2"
      )


def _rectified(s_BNTS, of_queries, of_keys, shared):
  """Scores of queries turned by the window, with keys that are not turned."""
  (window,) = shared
  positions_BT, far_BTNH = of_queries
  k_positions_BS, k_BSKH = of_keys
  B, T, N, H = far_BTNH.shape
  K = k_BSKH.shape[2]
  far_BTKGH = far_BTNH.reshape(B, T, K, N // K, H)
  far_BKGTS = jnp.einsum(
    "BTKGH,BSKH->BKGTS", far_BTKGH, k_BSKH, preferred_element_type=jnp.float32
  )
  ago_BTS = positions_BT[:, :, None] - k_positions_BS[:, None, :]
  near = (jnp.abs(ago_BTS) < window)[:, None]
  return jnp.where(near, s_BNTS, far_BKGTS.reshape(s_BNTS.shape))


class ReRoPE(RoPE):
  """RoPE of min(distance, window): all that lies beyond is equally far."""

  word = "rerope"
  of_scores = True
  option_type = Options
  of_content = True
  raw_keys = True

  @classmethod
  def stretched(cls, rope, trained, length):
    del length
    return Options(**vars(rope), window=max(1, trained // 2))

  def scores(self, asked: Asked) -> Pairs:
    window = self.options.window or max(1, self.config.max_len // 2)
    there = jnp.full_like(asked.q_positions_BT, window)
    far_BTNH = self.rotate(asked.q_BTNH, there) * asked.scale
    if not asked.causal:
      raise UserError(
        "model.position='rerope' knows what came before, and this mixer looks"
        " ahead too; choose rope, or a causal mixer"
      )
    return Pairs(
      _rectified,
      (asked.q_positions_BT, far_BTNH.astype(asked.q_BTNH.dtype)),
      (asked.k_positions_BS, asked.k_BSKH),
      (jnp.asarray(window),),
    )
