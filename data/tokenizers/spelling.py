"""The bytes of a piece, read from the decoder of a tokenizer.json.

The file says how its pieces become text by a chain of steps. Here each piece
gets bytes of its own, which join to that text but for what the chain does with
whole texts: WordPiece's `cleanup`, which takes spaces away before punctuation,
is left out, so that text that is streamed does not change afterwards.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_SPACE = "\u2581"  # SentencePiece's mark of a space


def byte_characters() -> list[str]:
  """The characters that byte-level pieces write the bytes 0 to 255 with.

  Those that Latin-1 prints stand for themselves, the others are counted from
  256 on (Radford et al. 2019).
  """
  prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(byte if byte in prints else next(others)) for byte in range(256)]


_BYTES = {char: byte for byte, char in enumerate(byte_characters())}


class Spelling(NamedTuple):
  """How pieces are spelled.

  Attributes:
    piece_bytes: from a piece, as the vocabulary has it, to its bytes.
    added_bytes: the same for a token that was added to the vocabulary as it
      is, such as "<think>".
    prefix: what decoding takes off the beginning of a text.
  """

  piece_bytes: Callable[[str], bytes]
  added_bytes: Callable[[str], bytes]
  prefix: bytes


def spelling(decoder: Mapping[str, Any] | None) -> Spelling:
  """Reads the `decoder` of a tokenizer.json.

  Raises:
    NotImplementedError: a step that has no bytes for a piece by itself.
  """
  steps: list[Callable[[str], str | bytes]] = []
  prefix = b""
  for part in steps_of(decoder, "decoders"):
    kind = part["type"]
    if kind == "ByteLevel":
      steps.append(_from_byte_characters)
    elif kind == "ByteFallback":
      steps.append(_from_code)
    elif kind == "Replace" and "String" in part["pattern"]:
      steps.append(_replacing(part["pattern"]["String"], part["content"]))
    elif kind == "Metaspace":
      steps.append(_replacing(part.get("replacement", _SPACE), " "))
      if part.get("prepend_scheme", "always") != "never":
        prefix = b" "
    elif kind == "WordPiece":
      steps.append(_after_space(part["prefix"]))
      prefix = b" "
    elif kind == "Strip" and part["stop"] == 0 and part["start"] <= 1:
      prefix = part["content"].encode() * part["start"]
    elif kind != "Fuse":
      raise NotImplementedError(
        f"a tokenizer.json whose decoder has the step {part} is not read:"
        " its pieces have no bytes of their own"
      )
  if decoder is None:  # the library puts a space between the pieces
    steps.append(_after_space(""))
    prefix = b" "

  as_is = [step for step in steps if step is not _from_byte_characters]
  return Spelling(_chain(steps), _chain(as_is), prefix)


def _chain(
  steps: Sequence[Callable[[str], str | bytes]],
) -> Callable[[str], bytes]:
  def piece_bytes(piece: str) -> bytes:
    text: str | bytes = piece
    for step in steps:
      if isinstance(text, str):
        text = step(text)
    return text.encode("utf-8") if isinstance(text, str) else text

  return piece_bytes


def steps_of(
  part: Mapping[str, Any] | None, key: str
) -> list[Mapping[str, Any]]:
  """Returns a part's steps, which a sequence has under `key`."""
  if part is None:
    return []
  if part["type"] == "Sequence":
    return [step for inner in part[key] for step in steps_of(inner, key)]
  return [part]


def _from_byte_characters(piece: str) -> str | bytes:
  if not all(char in _BYTES for char in piece):
    return piece
  return bytes(_BYTES[char] for char in piece)


def _from_code(piece: str) -> str | bytes:
  code = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece)
  return bytes((int(code[1], 16),)) if code else piece


def _replacing(old: str, new: str) -> Callable[[str], str]:
  return lambda piece: piece.replace(old, new)


def _after_space(continuation: str) -> Callable[[str], str]:
  """Pieces begin words, but for those that begin with the mark."""

  def spell(piece: str) -> str:
    if continuation and piece.startswith(continuation):
      return piece.removeprefix(continuation)
    return f" {piece}"

  return spell
