"""Tokenizers: text to ids and back."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from ...registry import Registry


@runtime_checkable
class Tokenizer(Protocol):
  """Ids of a text and the text of ids.

  Attributes:
    vocab_size: number of ids, specials included.
    pad_id, bos_id, eos_id: ids that no text encodes to.
    fingerprint: hash of everything that decides which ids a text gets.
    loses: "" where decode(encode(text)) == text for every text, else a
      sentence that says what is lost.
  """

  vocab_size: int
  pad_id: int
  bos_id: int
  eos_id: int
  fingerprint: str
  loses: str

  @classmethod
  def train(
    cls,
    texts: Iterable[str],
    vocab_size: int,
    options: Any,
    folder: pathlib.Path,
  ) -> "Tokenizer":
    """Trains on `texts` and saves into `folder`."""
    ...

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any) -> "Tokenizer": ...

  def save(self, folder: pathlib.Path) -> None: ...

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without specials.

    Raises:
      UserError: `text` holds a lone surrogate, which UTF-8 has no bytes for.
    """
    ...

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids`; specials give none, broken UTF-8 gives �.

    Raises:
      KeyError: an id outside [0, vocab_size).
    """
    ...

  def token_bytes(self, token: int) -> bytes:
    """Returns the exact bytes of one id, b"" for a special; raises likewise."""
    ...


TOKENIZERS = Registry(
  "tokenizer",
  "data.tokenizer",
  __name__,
  {"bytes": "bytes:Bytes", "bpe": "bpe:BPE", "unigram": "unigram:Unigram"},
)
