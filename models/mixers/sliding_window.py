"""Sliding-window attention (Beltagy et al. 2020, arXiv:2004.05150).

In a `pattern` with `attention` it makes local and global layers take turns, as
in Gemma 2 (arXiv:2408.00118); alone it is Mistral's (arXiv:2310.06825).
"""

import dataclasses

from ...errors import UserError
from . import attention


@dataclasses.dataclass(frozen=True)
class Options(attention.Options):
  window: int = 128  # tokens that one sees, itself among them

  def __post_init__(self):
    super().__post_init__()
    if self.window < 1:
      raise UserError(
        f"window={self.window} must be at least 1, the token itself"
      )


class SlidingWindow(attention.Attention):
  """Attention to the last `window` tokens; the state holds no more slots."""

  word = "sliding_window"
  option_type = Options

  @classmethod
  def window(cls, config):
    return cls.options(config).window
