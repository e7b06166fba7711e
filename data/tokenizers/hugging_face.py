"""A tokenizer.json, run by `tokenizers` (Wolf et al. 2020, arXiv:1910.03771).

The shared part of `byte_bpe`, `wordpiece` and `tokenizer_json`. What is saved
is a folder that transformers' AutoTokenizer reads.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .pieces import Pieces
from .spelling import spelling
from .utf8 import to_bytes

if TYPE_CHECKING:
  import tokenizers

VOCABULARY, CONFIG = "tokenizer.json", "tokenizer_config.json"


class Ends(NamedTuple):
  """Names of the tokens that fill up, begin and end a text."""

  pad: str
  bos: str
  eos: str


class HuggingFace(Pieces):
  """Encodes plain text with the library, decodes by the table of bytes.

  Args:
    text: of a tokenizer.json.
    ends: names of its control tokens, of which two or all may be the same.
  """

  def __init__(self, text: str, ends: Ends):
    self._text, self._ends = text, ends
    self._plain = _library(text, plain=True)
    state = json.loads(text)
    added = self._plain.get_added_tokens_decoder()
    controls = {t.content: i for i, t in added.items() if t.special}
    spell = spelling(state.get("decoder"))
    pieces = {i: piece for piece, i in self._plain.get_vocab().items()}

    def piece_bytes(token: int) -> bytes:
      if token in added:
        special = added[token].special
        return b"" if special else spell.added_bytes(added[token].content)
      # Some vocabularies have ids that stand for nothing.
      return spell.piece_bytes(pieces[token]) if token in pieces else b""

    facts = json.dumps([text, ends])
    super().__init__(
      [piece_bytes(token) for token in range(max(pieces) + 1)],
      controls,
      (),
      hashlib.sha256(facts.encode()).hexdigest(),
    )
    self._prefix = spell.prefix
    self.pad_id, self.bos_id, self.eos_id = (controls[name] for name in ends)
    # A Unigram model finds "</s>" in plain text, where its vocabulary has it.
    vocab = state["model"]["vocab"]
    names = vocab if isinstance(vocab, dict) else {piece for piece, _ in vocab}
    self._reachable = {i: name for name, i in controls.items() if name in names}

  @functools.cached_property
  def _with_special(self) -> "tokenizers.Tokenizer":
    return _library(self._text, plain=False)

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "HuggingFace":
    del options  # they are in the folder
    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return cls(
      (folder / VOCABULARY).read_text(encoding="utf-8"),
      Ends(*(said[f"{end}_token"] for end in Ends._fields)),
    )

  def save(self, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_text(self._text, encoding="utf-8")
    said = {f"{end}_token": name for end, name in self._ends._asdict().items()}
    said["tokenizer_class"] = "PreTrainedTokenizerFast"
    text = json.dumps(said, ensure_ascii=False, indent=2)
    (folder / CONFIG).write_text(text, encoding="utf-8")

  def encode(self, text: str, allow_special: bool = False) -> list[int]:
    if not allow_special:
      return super().encode(text)
    to_bytes(text)
    return self._with_special.encode(text, add_special_tokens=False).ids

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    """In threads, as many as the machine has or RAYON_NUM_THREADS says."""
    encodings = self._plain.encode_batch_fast(
      list(texts), add_special_tokens=False
    )
    return [encoding.ids for encoding in encodings]


def with_controls(text: str, names: Iterable[str]) -> str:
  """Returns a tokenizer.json in which the names are control tokens.

  It is `text` itself where they are already. Others keep their ids, and those
  that the file does not have get ids after its own.
  """
  state = json.loads(text)
  added = state.get("added_tokens", [])
  there = {token["content"] for token in added if token["special"]}
  new = [name for name in dict.fromkeys(names) if name not in there]
  if not new:
    return text
  library = _library(text, plain=False)
  library.add_special_tokens(new)
  # Not by the library's own writing, which may change with its version.
  kept = [token for token in added if token["content"] not in new]
  rules = ("single_word", "lstrip", "rstrip", "normalized")
  for name in new:
    token = {"id": library.token_to_id(name), "content": name}
    kept.append({**token, **dict.fromkeys(rules, False), "special": True})
  state["added_tokens"] = sorted(kept, key=lambda token: token["id"])
  return json.dumps(state, ensure_ascii=False)


def _library(text: str, plain: bool) -> "tokenizers.Tokenizer":
  """Returns the library's tokenizer; `plain`: control tokens are text."""
  import tokenizers

  library = tokenizers.Tokenizer.from_str(text)
  library.no_padding()
  library.no_truncation()
  library.encode_special_tokens = plain
  return library
