"""Import of a SentencePiece model (Kudo & Richardson 2018, arXiv:1808.06226).

Ids are the library's. A text is given to it as it is, with what the model's own
normaliser then does; the names of control tokens are plain text unless
`allow_special` is set. The symbols that its maker defined as text
(`user_defined_symbols`) are found in any text, as the library finds them.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ...errors import UserError
from .hugging_face import Ends
from .imported import Options, find, find_ends
from .pieces import Pieces
from .sentence_piece import FILE, SPACE, THREADS, piece_bytes

__all__ = ["Options", "SentencePieceModel"]

_NAMES = "names.json"
_KIND = "sentencepiece"


class SentencePieceModel(Pieces):
  """Nothing is trained; `data.vocab_size` is not asked.

  Args:
    model: the serialised model.
    ends: names of its pieces, or of special tokens.
  """

  trainable = False

  def __init__(
    self, model: bytes, ends: Ends, special_tokens: Sequence[str] = ()
  ):
    self._model, self._ends = model, ends
    self._named = list(special_tokens)
    self._processor = processor = _processor(model)
    rules = _rules(model)
    table = [piece_bytes(processor, i) for i in range(len(processor))]
    unknown = processor.unk_id()
    table[unknown] = processor.decode([unknown]).encode("utf-8")
    facts = hashlib.sha256(model)
    facts.update(json.dumps([ends, special_tokens]).encode())
    controls = _controls(processor)
    # Text of the model's that is to be a control token keeps its id.
    pieces = _pieces(processor)
    self._reachable = {
      pieces[name]: name
      for name in special_tokens
      if name in pieces and name not in controls
    }
    for token, name in self._reachable.items():
      controls[name] = token
      table[token] = b""
    super().__init__(table, controls, special_tokens, facts.hexdigest())
    self._prefix = b" " if rules.dummy_prefix else b""
    self.loses = rules.loses
    ids = [self.special_tokens[name] for name in ends]
    self.pad_id, self.bos_id, self.eos_id = ids

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "SentencePieceModel":
    """Reads the file that `options` names.

    Raises:
      UserError: there is none, or it is not a SentencePiece model.
    """
    del texts, vocab_size
    file = find(options.path, "*.model", _KIND)
    model = file.read_bytes()
    try:
      processor = _processor(model)
    except RuntimeError as error:
      raise UserError(
        f"{file} is not a SentencePiece model: {' '.join(str(error).split())}"
      ) from None
    controls, pieces = _controls(processor), _pieces(processor)
    ends = find_ends(file, controls, pieces, options, _KIND)
    # What the files beside it name and the model lacks is appended.
    return cls(model, ends, [*dict.fromkeys([*options.special_tokens, *ends])])

  @classmethod
  def load(
    cls, folder: pathlib.Path, options: Any = None
  ) -> "SentencePieceModel":
    del options  # they are in the folder
    said = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
    model = (folder / FILE).read_bytes()
    return cls(model, Ends(*said["ends"]), said["special_tokens"])

  def save(self, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(self._model)
    said = {"ends": self._ends, "special_tokens": self._named}
    (folder / _NAMES).write_text(json.dumps(said, indent=2), encoding="utf-8")

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    return self._processor.encode(list(texts), num_threads=THREADS)


def _processor(model: bytes) -> Any:
  import sentencepiece

  processor = sentencepiece.SentencePieceProcessor()
  processor.LoadFromSerializedProto(model)
  return processor


def _controls(processor: Any) -> dict[str, int]:
  return {
    processor.id_to_piece(i): i
    for i in range(len(processor))
    if processor.is_control(i)
  }


def _pieces(processor: Any) -> dict[str, int]:
  return {processor.id_to_piece(i): i for i in range(len(processor))}


class _Rules(NamedTuple):
  dummy_prefix: bool
  loses: str


def _rules(model: bytes) -> _Rules:
  """Reads from the model what the library has no call for.

  By hand: the classes that come with the library ask for the newest protobuf.
  Field numbers and defaults are those of sentencepiece_model.proto.
  """
  parts = dict(_fields(model))
  trainer = dict(_fields(parts.get(2, b"")))
  normalizer = dict(_fields(parts.get(3, b"")))
  if trainer.get(24) or dict(_fields(parts.get(5, b""))).get(2):
    raise NotImplementedError(
      "a SentencePiece model with treat_whitespace_as_suffix or a denormalizer"
      " is not read: its pieces have no bytes of their own"
    )
  lost = [f"{SPACE}, which comes back as a space"]
  if normalizer.get(2):
    name = bytes(normalizer.get(1, b"")).decode() or "its own rules"
    lost.append(f"what the normaliser changes ({name})")
  if normalizer.get(4, 1):
    lost.append("spaces at the ends and in a row")
  if not trainer.get(35):
    lost.append("characters without a piece")
  return _Rules(bool(normalizer.get(3, 1)), "; ".join(lost))


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
  """Yields (number, value) of a protobuf message: whole numbers or bytes."""
  at = 0

  def varint() -> int:
    nonlocal at
    value = shift = 0
    while True:
      byte = message[at]
      at += 1
      value |= (byte & 0x7F) << shift
      shift += 7
      if byte < 0x80:
        return value

  while at < len(message):
    number, wire = divmod(varint(), 8)
    if wire == 0:
      yield number, varint()
      continue
    size = {1: 8, 5: 4}.get(wire) or varint()
    yield number, message[at : at + size]
    at += size
