"""UTF-8 bytes as tokens (Xue et al. 2022, arXiv:2105.13626)."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from ...registry import NoOptions
from .utf8 import to_bytes

_N_SPECIALS = 3


class Bytes:
  """256 bytes after three specials; nothing to train."""

  vocab_size = 256 + _N_SPECIALS
  pad_id, bos_id, eos_id = range(_N_SPECIALS)
  fingerprint = "bytes-1"
  loses = ""
  _bytes: ClassVar[dict[int, bytes]] = {
    i: bytes((i - _N_SPECIALS,)) if i >= _N_SPECIALS else b""
    for i in range(vocab_size)
  }

  @classmethod
  def train(
    cls,
    texts: Iterable[str],
    vocab_size: int,
    options: NoOptions,
    folder: pathlib.Path,
  ) -> "Bytes":
    del texts, vocab_size, options, folder
    return cls()

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "Bytes":
    del folder, options
    return cls()

  def save(self, folder: pathlib.Path) -> None:
    del folder

  def encode(self, text: str) -> list[int]:
    return [byte + _N_SPECIALS for byte in to_bytes(text)]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return [self.encode(text) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return b"".join(map(self._bytes.__getitem__, ids)).decode(
      "utf-8", "replace"
    )

  def token_bytes(self, token: int) -> bytes:
    return self._bytes[token]
