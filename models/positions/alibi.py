"""ALiBi, attention with linear biases (Press et al. 2021, arXiv:2108.12409)."""

import math

import jax.numpy as jnp
import numpy as np

from ...kernels.flash_attention import Pairs
from . import Asked, Position


def slopes(n_heads: int) -> np.ndarray:
  """2^(-8i/n) for i = 1 ... n where n is a power of 2.

  Otherwise those of the power of 2 below, then every second of those of the
  one above, as in the authors' code.
  """
  below = 2 ** math.floor(math.log2(n_heads))
  first = 2.0 ** (-8 / below * np.arange(1, below + 1))
  more = 2.0 ** (-4 / below * np.arange(1, 2 * (n_heads - below), 2))
  return np.concatenate([first, more]).astype(np.float32)


class ALiBi(Position):
  """Subtracts slope * distance from the scores; the slopes are not trained."""

  word = "alibi"

  def scores(self, asked: Asked) -> Pairs:
    slopes_N11 = slopes(self.config.n_heads)[:, None, None]

    def biased(s_BNTS, of_queries, of_keys, shared):
      del shared
      (q_BT,), (k_BS,) = of_queries, of_keys
      away_BTS = jnp.abs(q_BT[:, :, None] - k_BS[:, None, :])
      return s_BNTS - slopes_N11 * away_BTS[:, None].astype(jnp.float32)

    return Pairs(biased, (asked.q_positions_BT,), (asked.k_positions_BS,))
