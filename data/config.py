"""The data namespace of the config, checked."""

import dataclasses

from ..errors import UserError
from ..registry import Opts


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read and in which order; units and meaning in configs/base.py."""

  source: str
  tokenizer: str
  vocab_size: int
  tokenizer_bytes: int
  max_bytes: int
  heldout_bytes: int
  seq_len: int
  batch_size: int
  seed: int
  prefetch: int
  opts: Opts

  def __post_init__(self):
    for key in ("seq_len", "batch_size", "vocab_size", "heldout_bytes"):
      if getattr(self, key) < 1:
        raise UserError(f"data.{key}={getattr(self, key)} must be at least 1")
    for key in ("max_bytes", "prefetch", "tokenizer_bytes", "seed"):
      if getattr(self, key) < 0:
        raise UserError(
          f"data.{key}={getattr(self, key)} must be 0 or positive"
        )
