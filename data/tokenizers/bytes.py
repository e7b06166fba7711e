"""UTF-8 bytes as tokens (Xue et al. 2022, arXiv:2105.13626)."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from .pieces import BOS, EOS, PAD, Pieces, saved_special_tokens
from .pieces import SpecialTokens as Options

__all__ = ["Bytes", "Options"]

CONTROLS = {PAD: 0, BOS: 1, EOS: 2}
# Bytes of the ids 0 to 258, with which other vocabularies begin, too.
BYTE_TABLE = [b""] * len(CONTROLS) + [bytes((byte,)) for byte in range(256)]


class Bytes(Pieces):
  """256 bytes after three specials; nothing to train."""

  trainable = False
  pad_id, bos_id, eos_id = CONTROLS.values()

  def __init__(self, special_tokens: Iterable[str] = ()):
    super().__init__(BYTE_TABLE, CONTROLS, special_tokens, "bytes-1")

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "Bytes":
    del texts, vocab_size
    return cls(options.special_tokens)

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "Bytes":
    del options  # they are in the folder
    return cls(saved_special_tokens(folder))

  def save(self, folder: pathlib.Path) -> None:
    self._save_special_tokens(folder)

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    return [spelled(text) for text in texts]


def spelled(text: str) -> list[int]:
  """Returns the ids in `BYTE_TABLE` of the bytes of a text."""
  return [byte + len(CONTROLS) for byte in text.encode("utf-8")]
