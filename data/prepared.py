"""What preparing a config's data leaves: packed rows on disk, in numbers."""

import dataclasses
import pathlib
from collections.abc import Mapping

from ..errors import UserError
from .tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Packed:
  """The packed rows of one source.

  Attributes:
    name: of the source, as the config has it.
    share: of the rows in training that come from it.
    epochs: how often its rows may be seen at most; 0: any number of times.
    folder: holds train.array_record and heldout.array_record, a row each
      record: int32 [3, T], little-endian tokens, targets and segment_ids.
    train_tokens: targets in the training rows, EOS included.
    train_bytes, heldout_bytes: UTF-8 bytes of the documents on each side.
    gzip_bytes, xz_bytes: of the held-out documents in one stream, at level 9.
    at_lengths: length -> file of the held-out documents' rows of that length.
  """

  name: str
  share: float
  epochs: float
  folder: pathlib.Path
  at_lengths: Mapping[int, pathlib.Path]
  n_train_rows: int
  n_heldout_rows: int
  train_tokens: int
  train_documents: int
  train_bytes: int
  heldout_bytes: int
  gzip_bytes: int
  xz_bytes: int


@dataclasses.dataclass(frozen=True)
class Prepared:
  """All of a config's packed rows, and their tokenizer.

  Attributes:
    parts: the sources, in the order of the config.
    fingerprint: hash of the texts, the split, the tokenizer, the packing and
      the shares.
    seq_len: T of the rows.
  """

  parts: tuple[Packed, ...]
  tokenizer: Tokenizer
  fingerprint: str
  seq_len: int

  def total(self, what: str) -> int:
    """Returns the sum over the sources of one of their numbers."""
    return sum(getattr(part, what) for part in self.parts)

  @property
  def n_train_rows(self) -> int:
    return self.total("n_train_rows")

  @property
  def heldout_bytes(self) -> int:
    return self.total("heldout_bytes")

  @property
  def bytes_per_token(self) -> float:
    """Of the training text, specials not counted."""
    # Each document's targets are its tokens and EOS.
    tokens = self.total("train_tokens") - self.total("train_documents")
    return self.total("train_bytes") / tokens

  @property
  def fill(self) -> float:
    """The share of the training rows' slots that hold a token."""
    return self.total("train_tokens") / (self.n_train_rows * self.seq_len)

  @property
  def gzip_bits_per_byte(self) -> float:
    """Of the held-out text; what a model has to beat."""
    return 8 * self.total("gzip_bytes") / self.heldout_bytes

  @property
  def xz_bits_per_byte(self) -> float:
    """Of the held-out text, likewise."""
    return 8 * self.total("xz_bytes") / self.heldout_bytes

  @property
  def references(self) -> dict[str, float]:
    """Name of a compressor -> its bits per byte of the held-out text."""
    return {
      "gzip -9": self.gzip_bits_per_byte,
      "xz -9": self.xz_bits_per_byte,
    }

  def check_epochs(self, n_rows: int) -> None:
    """Refuses a training of `n_rows` rows in which a source runs dry.

    Raises:
      UserError: names the first source that would be seen too often.
    """
    for part in self.parts:
      epochs = n_rows * part.share / part.n_train_rows
      if part.epochs and epochs > part.epochs:
        raise UserError(
          f"data.mixture: {part.name!r} runs dry: {n_rows} rows at a share of"
          f" {part.share:.3g} are {epochs:.2f} epochs of its"
          f" {part.n_train_rows} rows, and {part.epochs:g} are allowed; lower"
          " its weight, steps or data.batch_size, or allow more epochs"
        )
