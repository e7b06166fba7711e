"""Import of a Hugging Face tokenizer.json (Wolf et al. 2020, arXiv:1910.03771).

Ids are those of the file, so that the checkpoint it belongs to can be used.
Names of control tokens in a text are plain text unless `allow_special` is set.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import UserError
from .hugging_face import CONFIG, VOCABULARY, Ends, HuggingFace, with_controls
from .imported import Options, find, find_ends
from .spelling import byte_characters, steps_of

__all__ = ["Options", "TokenizerJSON"]

_SPACE = "\u2581"
_KIND = "tokenizer_json"


class TokenizerJSON(HuggingFace):
  """Nothing is trained; `data.vocab_size` is not asked."""

  trainable = False

  def __init__(self, text: str, ends: Ends):
    super().__init__(text, ends)
    self.loses = _losses(json.loads(text))

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "TokenizerJSON":
    """Reads the file that `options` names.

    Raises:
      UserError: there is none, or it is not a tokenizer.json.
      NotImplementedError: its pieces have no bytes of their own.
    """
    import tokenizers

    del texts, vocab_size
    file = find(options.path, VOCABULARY, _KIND)
    try:
      text = file.read_text(
        encoding="utf-8-sig"
      )  # a byte order mark is no JSON
      library = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises no narrower one
      fix = f"; name {VOCABULARY} beside it" if file.name == CONFIG else ""
      raise UserError(
        f"{file} is not a {VOCABULARY} that tokenizers"
        f" {tokenizers.__version__} reads: {' '.join(str(error).split())}{fix}"
      ) from None
    added = library.get_added_tokens_decoder().values()
    special = [token.content for token in added if token.special]
    known = library.get_vocab(with_added_tokens=True)
    ends = find_ends(file, special, known, options, _KIND)
    return cls(with_controls(text, [*ends, *options.special_tokens]), ends)


def _losses(state: Mapping[str, Any]) -> str:
  """Says what a tokenizer.json changes; "" where it keeps every text."""
  lost = []
  steps = steps_of(state.get("normalizer"), "normalizers")
  cuts = steps_of(state.get("pre_tokenizer"), "pretokenizers")
  names = [s["type"] for s in steps if s["type"] not in ("Prepend", "Replace")]
  if names:
    lost.append(f"what the normalizer changes ({', '.join(names)})")
  for step in steps:
    if step["type"] == "Replace" and step["content"] == _SPACE:
      lost.append(f"{_SPACE}, which comes back as a space")
    elif step["type"] == "Replace":
      lost.append(f"{step['pattern']}, which becomes {step['content']!r}")
  for cut in cuts:
    kind = cut["type"]
    if kind == "Metaspace":
      lost.append(f"{_SPACE} and spaces at the beginning")
    elif kind == "ByteLevel" and cut["add_prefix_space"]:
      lost.append("whether a text begins with a space")
    elif cut.get("behavior") == "Removed":
      lost.append("what stands between the words")
    elif kind not in ("ByteLevel", "Split", "Digits", "Punctuation"):
      lost.append("which spaces stand between the words")
  if not _knows_all(state, cuts):
    lost.append("characters without a piece")
  return "; ".join(dict.fromkeys(lost))


def _knows_all(
  state: Mapping[str, Any], cuts: Iterable[Mapping[str, Any]]
) -> bool:
  """Whether every byte has a piece."""
  model = state["model"]
  vocab = model["vocab"]
  names = vocab if isinstance(vocab, dict) else {piece for piece, _ in vocab}
  if any(cut["type"] == "ByteLevel" for cut in cuts):
    return model.get("type") != "WordLevel" and all(
      mark + char in names
      for mark in {"", model.get("continuing_subword_prefix") or ""}
      for char in byte_characters()
    )
  return bool(model.get("byte_fallback")) and all(
    f"<0x{byte:02X}>" in names for byte in range(256)
  )
