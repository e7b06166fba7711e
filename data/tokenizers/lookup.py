"""Frequent strings have ids, all others are spelled in bytes.

The shared part of `characters` and `words`.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import UserError
from .bytes import BYTE_TABLE, CONTROLS, spelled
from .pieces import (
  Pieces,
  SpecialTokens,
  missing,
  no_room,
  no_text,
  saved_special_tokens,
)

_FILE = "vocabulary.json"


@dataclasses.dataclass(frozen=True)
class Options(SpecialTokens):
  """What the choice of a vocabulary by counting can vary.

  min_count: how often a string must be in the text to get an id.
  """

  min_count: int = 1

  def __post_init__(self):
    super().__post_init__()
    if self.min_count < 1:
      raise UserError(f"min_count={self.min_count} must be at least 1")


class Lookup(Pieces):
  """The most frequent strings, after the specials and the 256 bytes.

  The vocabulary is smaller than what is asked for where the text has no more
  strings. ASCII characters have no entry besides their byte.

  Args:
    entries: the strings, by rank.
  """

  pad_id, bos_id, eos_id = CONTROLS.values()

  def __init__(self, entries: Sequence[str], special_tokens: Iterable[str]):
    self._entries = list(entries)
    self._ids = {chr(i): len(CONTROLS) + i for i in range(128)}
    self._ids |= {e: len(BYTE_TABLE) + i for i, e in enumerate(entries)}
    text = json.dumps([type(self).__name__, self._entries])
    super().__init__(
      [*BYTE_TABLE, *(entry.encode("utf-8") for entry in entries)],
      CONTROLS,
      special_tokens,
      hashlib.sha256(text.encode()).hexdigest(),
    )

  @staticmethod
  def cut(text: str) -> Sequence[str]:
    """Returns strings that join to the text."""
    raise NotImplementedError

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "Lookup":
    """Counts the strings of `texts`; of equal counts, the first by code point.

    Raises:
      UserError: there is no text, or no room for the bytes.
    """
    n_appended = len(missing(options.special_tokens, CONTROLS))
    room = vocab_size - len(BYTE_TABLE) - n_appended
    if room < 0:
      raise no_room(vocab_size, vocab_size - room)
    counts: Counter[str] = Counter()
    for text in texts:
      counts.update(cls.cut(text))
    if not counts:
      raise no_text()
    ranked = sorted(
      (-n, string)
      for string, n in counts.items()
      if n >= options.min_count and (len(string) > 1 or not string.isascii())
    )
    entries = [string for _, string in ranked[:room]]
    return cls(entries, options.special_tokens)

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "Lookup":
    del options  # they are in the folder
    entries = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    return cls(entries, saved_special_tokens(folder))

  def save(self, folder: pathlib.Path) -> None:
    self._save_special_tokens(folder)
    text = json.dumps(self._entries, ensure_ascii=False, indent=0)
    (folder / _FILE).write_text(text, encoding="utf-8")

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    return [self._looked_up(text) for text in texts]

  def _looked_up(self, text: str) -> list[int]:
    strings = self.cut(text)
    found = list(map(self._ids.get, strings))
    ids: list[int] = []
    for string, token in zip(strings, found, strict=True):
      if token is None:
        ids += spelled(string)
      else:
        ids.append(token)
    return ids
