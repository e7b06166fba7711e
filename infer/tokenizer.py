"""What generation needs of a tokenizer; `ablax.data.tokenizers` has more."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
  """Ids of a text and the bytes of an id.

  One whose control tokens have names also has `special_tokens`, a mapping
  from names to ids; `encode` never makes one of them from a text.
  """

  vocab_size: int
  pad_id: int
  bos_id: int
  eos_id: int

  def encode(self, text: str) -> list[int]: ...

  def token_bytes(self, token: int) -> bytes: ...


def special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
  """Name -> id of the control tokens that have a name."""
  return dict(getattr(tokenizer, "special_tokens", {}))


def spell(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
  """The text of tokens; what is no UTF-8 becomes a mark."""
  return b"".join(map(tokenizer.token_bytes, tokens)).decode("utf-8", "replace")
