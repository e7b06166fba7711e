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
from .pieces import (
  BOS,
  EOS,
  PAD,
  Pieces,
  SpecialTokens,
  missing,
  no_text,
  saved_special_tokens,
  too_large,
)

FILE = "sentencepiece.model"
SPACE = "\u2581"  # how the library writes a space inside a piece
_CHUNK = 4096  # characters per training sentence
# Fixed, whatever the machine has: the number of partial sums is part of the
# result.
THREADS = 4


@dataclasses.dataclass(frozen=True)
class Options(SpecialTokens):
  """What the training of a SentencePiece vocabulary can vary.

  split_digits: every digit is a piece of its own.
  character_coverage: in (0, 1], the share of the text's characters that get a
    piece; the rarest rest is spelled in bytes.
  """

  split_digits: bool = False
  character_coverage: float = 0.9999

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.character_coverage <= 1:
      raise UserError(
        f"character_coverage={self.character_coverage} must be in (0, 1]"
      )


class SentencePiece(Pieces):
  """A trained model; subclasses name the algorithm.

  Args:
    model: the serialised model, which is also what the fingerprint hashes.
  """

  algorithm: ClassVar[str]
  pad_id, bos_id, eos_id, _unk_id = range(4)

  def __init__(self, model: bytes, special_tokens: Iterable[str] = ()):
    import sentencepiece

    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self._space_ids = [
      self._processor.piece_to_id(f"<0x{byte:02X}>")
      for byte in SPACE.encode("utf-8")
    ]
    n = self._processor.get_piece_size()
    super().__init__(
      [piece_bytes(self._processor, i) for i in range(n)],
      {PAD: self.pad_id, BOS: self.bos_id, EOS: self.eos_id},
      special_tokens,
      hashlib.sha256(model).hexdigest(),
    )

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "SentencePiece":
    """Trains on `texts`; equal texts, equal model.

    Raises:
      UserError: the texts are empty, or too few or too many characters for
        `vocab_size`.
    """
    import sentencepiece

    appended = missing(options.special_tokens, (PAD, BOS, EOS))
    model = io.BytesIO()
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_sentences(texts),
        model_writer=model,
        model_type=cls.algorithm,
        vocab_size=vocab_size - len(appended),
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
        num_threads=THREADS,
        minloglevel=2,
      )
    except RuntimeError as error:
      raise _explained(error, vocab_size, len(appended)) from None
    return cls(model.getvalue(), appended)

  @classmethod
  def load(cls, folder: pathlib.Path, options: Any = None) -> "SentencePiece":
    del options  # they are in the folder
    return cls((folder / FILE).read_bytes(), saved_special_tokens(folder))

  def save(self, folder: pathlib.Path) -> None:
    self._save_special_tokens(folder)
    (folder / FILE).write_bytes(self._model)

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    # The library cannot tell its own mark from a space: such a character is
    # cut out, and spelled in bytes in between.
    parts = [text.split(SPACE) for text in texts]
    encoded = iter(
      self._processor.encode(
        [part for some in parts for part in some], num_threads=THREADS
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


def piece_bytes(processor: Any, token: int) -> bytes:
  """Returns the bytes of a piece; b"" for a control or the unknown one."""
  if processor.is_control(token) or processor.is_unknown(token):
    return b""
  piece = processor.id_to_piece(token)
  if processor.is_byte(token):
    return bytes((int(piece[1:-1], 16),))
  return piece.replace(SPACE, " ").encode("utf-8")


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


def _explained(
  error: RuntimeError, vocab_size: int, n_appended: int
) -> Exception:
  """Turns the library's message into one that names our key and the fix."""
  if high := re.search(r"set it to a value <= (\d+)", str(error)):
    return too_large(vocab_size, int(high[1]) + n_appended)
  if low := re.search(r"required_chars\. \d+ vs (\d+)", str(error)):
    return UserError(
      f"data.vocab_size={vocab_size} has no room for the 256 bytes, the"
      f" specials and the text's characters; set it to"
      f" {int(low[1]) + n_appended} or more"
    )
  if "sentences_.empty()" in str(error):
    return no_text()
  return error
