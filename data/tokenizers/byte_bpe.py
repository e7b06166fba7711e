"""Byte-level byte-pair encoding (Wang et al. 2019, arXiv:1909.03341).

As in GPT-2 (Radford et al. 2019): merges of bytes, never beyond a word.
"""

from collections.abc import Callable
from typing import Any

from .byte_level import ByteLevel, Options

__all__ = ["ByteBPE", "Options"]


class ByteBPE(ByteLevel):
  """Merges the most frequent pair of byte strings, again and again."""

  @classmethod
  def _model_and_trainer(cls) -> tuple[Any, Callable[..., Any]]:
    from tokenizers import models, trainers

    return models.BPE(), trainers.BpeTrainer
