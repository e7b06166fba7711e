"""The floor of every tokenizer: each id has bytes of its own.

Decoding is joining, so what generation streams, id by id, is what `decode`
gives for all of them.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from ...errors import UserError
from .utf8 import to_bytes

# The trained kinds' own control tokens; a text that spells them is plain text.
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
_FILE = "special_tokens.json"


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """The option of every tokenizer.

  special_tokens: names of control tokens, such as "<|im_start|>". Those that
    the tokenizer does not have yet get the last ids, in this order; they count
    in `vocab_size`.
  """

  special_tokens: tuple[str, ...] = ()

  def __post_init__(self):
    if isinstance(self.special_tokens, str):
      raise UserError(
        f"special_tokens={self.special_tokens!r} must be a tuple of names; use"
        f" ({self.special_tokens!r},)"
      )
    for name in self.special_tokens:
      if not name:
        raise UserError("special_tokens holds an empty name; drop it")
      to_bytes(name, f"special_tokens={name!r}")
      if self.special_tokens.count(name) > 1:
        raise UserError(f"special_tokens holds {name!r} twice; drop one")


class Pieces:
  """A table from ids to bytes; a subclass cuts texts into ids of the table.

  Args:
    table: the bytes of each id of the vocabulary; b"" for a control token.
    controls: name -> id of the control tokens among them.
    special_tokens: names of more, of which the new ones get ids after them.
    fingerprint: of all but `special_tokens`.
  """

  trainable: ClassVar[bool] = True
  loses: str = ""
  # What the encoder puts before a text and `decode` takes off again.
  _prefix: bytes = b""
  # Control tokens that `_encode` may find in plain text: id -> name.
  _reachable: Mapping[int, str] = {}

  def __init__(
    self,
    table: Sequence[bytes],
    controls: Mapping[str, int],
    special_tokens: Iterable[str],
    fingerprint: str,
  ):
    self._appended = missing(special_tokens, controls)
    self._bytes = dict(enumerate([*table, *(b"" for _ in self._appended)]))
    self.special_tokens: Mapping[str, int] = {
      **controls,
      **{name: len(table) + i for i, name in enumerate(self._appended)},
    }
    self.vocab_size = len(self._bytes)
    self.fingerprint = fingerprint
    if self._appended:
      text = json.dumps([fingerprint, self._appended])
      self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

  def _save_special_tokens(self, folder: pathlib.Path) -> None:
    """Writes the appended names, where there are any; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if self._appended:
      (folder / _FILE).write_text(json.dumps(self._appended), encoding="utf-8")

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, which UTF-8 can hold."""
    raise NotImplementedError

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    for text in texts:
      if not text.isascii():
        to_bytes(text)
    batch = self._encode(texts)
    if self._reachable:
      for i, text in enumerate(texts):
        if not self._reachable.keys().isdisjoint(batch[i]):
          parts = self._behind_first_characters.split(text)
          if len(parts) > 1:  # else it is the unknown token, as it should be
            batch[i] = [token for ids in self._encode(parts) for token in ids]
    return batch

  @functools.cached_property
  def _behind_first_characters(self) -> re.Pattern[str]:
    """Where to cut the names of reachable tokens, so that no piece fits one."""
    names = "|".join(map(re.escape, self._reachable.values()))
    return re.compile(f"(?<=(?={names})(?s:.))")

  def encode(self, text: str, allow_special: bool = False) -> list[int]:
    if not allow_special:
      return self.encode_batch([text])[0]
    # Plain text and names in turn.
    parts = self._names.split(text)
    ids = []
    for i, plain in enumerate(self.encode_batch(parts[::2])):
      ids += plain
      if 2 * i + 1 < len(parts):
        ids.append(self.special_tokens[parts[2 * i + 1]])
    return ids

  @functools.cached_property
  def _names(self) -> re.Pattern[str]:
    # Of two names that begin alike, the longer.
    names = sorted(self.special_tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, names))})")

  def decode(self, ids: Iterable[int]) -> str:
    joined = b"".join(map(self._bytes.__getitem__, ids))
    return joined.removeprefix(self._prefix).decode("utf-8", "replace")

  def token_bytes(self, token: int) -> bytes:
    return self._bytes[token]


def missing(
  special_tokens: Iterable[str], controls: Iterable[str]
) -> list[str]:
  """Returns those of the special tokens that are not controls already."""
  there = set(controls)
  return [name for name in special_tokens if name not in there]


def saved_special_tokens(folder: pathlib.Path) -> list[str]:
  """Returns the names that were saved beside a vocabulary."""
  file = folder / _FILE
  if not file.is_file():
    return []
  return json.loads(file.read_text(encoding="utf-8"))


def no_room(vocab_size: int, least: int) -> UserError:
  return UserError(
    f"data.vocab_size={vocab_size} has no room for the 256 bytes and the"
    f" special tokens; set it to {least} or more"
  )


def too_large(vocab_size: int, most: int) -> UserError:
  return UserError(
    f"data.vocab_size={vocab_size} is more than this text has pieces for;"
    f" set it to {most} or less, or train on more text"
  )


def no_text() -> UserError:
  return UserError(
    "the tokenizer got no text to train on; raise data.tokenizer_bytes"
  )
