"""SentencePiece without losses (Kudo & Richardson 2018, arXiv:1808.06226).

The shared part of `bpe` and `unigram`. The library's defaults change a text:
they normalise it, add a space, fold runs of spaces and drop line ends. Here
nothing is normalised, what is not in the vocabulary becomes bytes, and line
ends and indentation are in pieces like any other character.
"""

import dataclasses
import hashlib
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from ...errors import UserError
from .utf8 import to_bytes

_FILE = "sentencepiece.model"
_SPACE = "\u2581"  # how the library writes a space inside a piece
_CHUNK = 4096  # characters per training sentence
# Fixed, whatever the machine has: the number of partial sums is part of the
# result.
_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Options:
  """What the training of a SentencePiece vocabulary can vary.

  split_digits: every digit is a piece of its own.
  character_coverage: in (0, 1], the share of the text's characters that get a
    piece; the rarest rest is spelled in bytes.
  """

  split_digits: bool = False
  character_coverage: float = 0.9999

  def __post_init__(self):
    if not 0 < self.character_coverage <= 1:
      raise UserError(
        f"character_coverage={self.character_coverage} must be in (0, 1]"
      )


class SentencePiece:
  """A trained model; subclasses name the algorithm.

  Args:
    model: the serialised model, which is also what the fingerprint hashes.
  """

  algorithm: ClassVar[str]
  loses: ClassVar[str] = ""
  pad_id, bos_id, eos_id, _unk_id = range(4)

  def __init__(self, model: bytes):
    import sentencepiece

    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.vocab_size: int = self._processor.get_piece_size()
    self.fingerprint = hashlib.sha256(model).hexdigest()
    self._bytes = {i: self._piece_bytes(i) for i in range(self.vocab_size)}
    self._space_ids = [
      self._processor.piece_to_id(f"<0x{byte:02X}>")
      for byte in _SPACE.encode("utf-8")
    ]

  def _piece_bytes(self, token: int) -> bytes:
    if self._processor.is_control(token) or self._processor.is_unknown(token):
      return b""
    piece = self._processor.id_to_piece(token)
    if self._processor.is_byte(token):
      return bytes((int(piece[1:-1], 16),))
    return piece.replace(_SPACE, " ").encode("utf-8")

  @classmethod
  def train(
    cls,
    texts: Iterable[str],
    vocab_size: int,
    options: Options,
    folder: pathlib.Path,
  ) -> "SentencePiece":
    """Trains on `texts` and saves into `folder`; equal texts, equal model.

    Raises:
      UserError: the texts are empty, or too few or too many characters for
        `vocab_size`.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(texts),
        model_writer=model,
        model_type=cls.algorithm,
        vocab_size=vocab_size,
        pad_id=cls.pad_id,
        bos_id=cls.bos_id,
        eos_id=cls.eos_id,
        unk_id=cls._unk_id,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        # Half of code is punctuation: pieces such as "(self" or "else:\n" save
        # a tenth of the tokens.
        split_by_unicode_script=False,
        split_digits=options.split_digits,
        character_coverage=options.character_coverage,
        byte_fallback=True,
        max_sentence_length=8 * _CHUNK,  # bytes; longer ones are skipped
        num_threads=_THREADS,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise _explained(error, vocab_size) from None
    tokenizer = cls(model.getvalue())
    tokenizer.save(folder)
    return tokenizer

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "SentencePiece":
    del options  # they are in the model
    return cls((folder / _FILE).read_bytes())

  def save(self, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_bytes(self._model)

  def encode(self, text: str) -> list[int]:
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    for text in texts:
      if not text.isascii():
        to_bytes(text)
    # The library cannot tell its own mark from a space: such a character is
    # cut out, and spelled in bytes in between.
    parts = [text.split(_SPACE) for text in texts]
    encoded = iter(
      self._processor.encode(
        [part for some in parts for part in some], num_threads=_THREADS
      )
    )
    ids = []
    for some in parts:
      joined = next(encoded)
      for _ in some[1:]:
        joined += self._space_ids
        joined += next(encoded)
      ids.append(joined)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    return b"".join(map(self._bytes.__getitem__, ids)).decode(
      "utf-8", "replace"
    )

  def token_bytes(self, token: int) -> bytes:
    return self._bytes[token]


def _sentences(texts: Iterable[str]) -> Iterator[str]:
  """Yields chunks that end with a line where they can; line ends inside."""
  for text in texts:
    start = 0
    while start < len(text):
      end = start + _CHUNK
      if end < len(text):
        end = text.rfind("\n", start, end) + 1 or end
      yield text[start:end]
      start = end


def _explained(error: RuntimeError, vocab_size: int) -> Exception:
  """Turns the library's message into one that names our key and the fix."""
  if high := re.search(r"set it to a value <= (\d+)", str(error)):
    return UserError(
      f"data.vocab_size={vocab_size} is more than this text has pieces for;"
      f" set it to {high[1]} or less, or train on more text"
    )
  if low := re.search(r"required_chars\. \d+ vs (\d+)", str(error)):
    return UserError(
      f"data.vocab_size={vocab_size} has no room for the 256 bytes, the"
      f" specials and the text's characters; set it to {low[1]} or more"
    )
  if "sentences_.empty()" in str(error):
    return UserError(
      "the tokenizer got no text to train on; raise data.tokenizer_bytes"
    )
  return error
