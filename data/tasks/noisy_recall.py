"""Noisy in-context recall (Poli et al. 2024, arXiv:2403.17844).

In-context recall among pairs of symbols that mean nothing.
"""

import dataclasses

from ...errors import UserError
from . import at_least
from .in_context_recall import InContextRecall
from .in_context_recall import Options as RecallOptions


@dataclasses.dataclass(frozen=True)
class Options(RecallOptions):
  """Options of noisy_recall.

  Attributes:
    noise_symbols: besides `symbols`; MAD counts them in its vocabulary.
    noise_share: of the pairs, in (0, 1); one pair at least is no noise.
  """

  noise_symbols: int = 16
  noise_share: float = 0.2

  def __post_init__(self):
    super().__post_init__()
    at_least(self, noise_symbols=1)
    if not 0 < self.noise_share < 1:
      raise UserError(
        f"noise_share={self.noise_share} must be in (0, 1); without noise it is"
        " data.task=in_context_recall"
      )


class NoisyRecall(InContextRecall):
  def __init__(self, options: Options, seq_len: int):
    self.noise_share = options.noise_share
    self.n_noise = options.noise_symbols
    super().__init__(options, seq_len)
