"""The vocabulary of a task: ids with no text behind them.

It stands where a tokenizer does, so that a run has one beside it and prompts
of numbers, as in "3 17 5", can be continued.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import UserError
from . import NOTHING

_FILE = "symbols.json"


class Symbols:
  """Spells each id as its number; nothing to train.

  A prompt that is a text gets `bos_id` before it, which is `NOTHING`; ids are
  taken as they are.
  """

  trainable: bool = False
  loses: str = "all but the numbers"
  pad_id = bos_id = eos_id = NOTHING

  def __init__(self, vocab_size: int):
    self.vocab_size = vocab_size
    self.special_tokens: Mapping[str, int] = {}
    self.fingerprint = f"symbols-1-{vocab_size}"

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Any
  ) -> "Symbols":
    del texts, options
    return cls(vocab_size)

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "Symbols":
    del options
    return cls(json.loads((folder / _FILE).read_text(encoding="utf-8")))

  def save(self, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(self.vocab_size)
    (folder / _FILE).write_text(text, encoding="utf-8")

  def encode(self, text: str, allow_special: bool = False) -> list[int]:
    del allow_special
    for word in text.split():
      if not (word.isascii() and word.isdigit()) or (
        int(word) >= self.vocab_size
      ):
        raise UserError(
          f"{word[:20]!r} is no symbol of this task; a prompt is numbers from 0"
          f" to {self.vocab_size - 1} with spaces between"
        )
    return [int(word) for word in text.split()]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return [self.encode(text) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return b"".join(map(self.token_bytes, ids)).decode()

  def token_bytes(self, token: int) -> bytes:
    if not 0 <= token < self.vocab_size:
      raise KeyError(token)
    return b" %d" % token
