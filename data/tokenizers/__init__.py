"""Tokenizers: text to ids and back."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ...registry import Registry


@runtime_checkable
class Tokenizer(Protocol):
  """Ids of a text and the text of ids.

  Attributes:
    trainable: False where `train` learns nothing from the texts: the
      vocabulary is fixed, or read from a file that the options name.
    vocab_size: number of ids, specials included.
    pad_id, bos_id, eos_id: ids that no text encodes to; of an imported
      vocabulary, some may be the same.
    special_tokens: name -> id of every control token, these three included.
    fingerprint: hash of everything that decides which ids a text gets.
    loses: "" where decode(encode(text)) == text for every text, else a
      sentence that says what is lost.
  """

  trainable: bool
  vocab_size: int
  pad_id: int
  bos_id: int
  eos_id: int
  special_tokens: Mapping[str, int]
  fingerprint: str
  loses: str

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Any
  ) -> "Tokenizer":
    """Learns from `texts`; equal texts and options, equal fingerprint."""
    ...

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any) -> "Tokenizer": ...

  def save(self, folder: pathlib.Path) -> None: ...

  def encode(self, text: str, allow_special: bool = False) -> list[int]:
    """Returns the ids of `text`; nothing is put before or behind it.

    Args:
      allow_special: the names of `special_tokens` in the text become their
        ids, as in a chat template. Without it no text gives a control token,
        so that nobody's text can end another's turn.

    Raises:
      UserError: `text` holds a lone surrogate, which UTF-8 has no bytes for.
    """
    ...

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids`; specials give none, broken UTF-8 gives �.

    It is what `token_bytes` join to, without the space that some imported
    vocabularies put before each text.

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
  {
    "bytes": "bytes:Bytes",
    "characters": "characters:Characters",
    "words": "words:Words",
    "bpe": "bpe:BPE",
    "unigram": "unigram:Unigram",
    "byte_bpe": "byte_bpe:ByteBPE",
    "wordpiece": "wordpiece:WordPiece",
    "tokenizer_json": "tokenizer_json:TokenizerJSON",
    "sentencepiece": "sentencepiece_model:SentencePieceModel",
  },
)
