"""Exact duplicates by hash (Lee et al. 2022, arXiv:2107.06499)."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Sequence

from ...errors import UserError, nearest

_NORMALIZE = ("none", "loose")
_SIZE = 16  # bytes of a hash: 2^64 documents before two are likely to collide


@dataclasses.dataclass(frozen=True)
class Options:
  """What is equal.

  normalize: none (every character counts) | loose (neither case, nor how
    Unicode writes a character, nor the amount and kind of white space counts;
    Broder 1997 calls this the canonical form).
  """

  normalize: str = "none"

  def __post_init__(self):
    if self.normalize not in _NORMALIZE:
      raise UserError(
        f"data.opts.exact.normalize={self.normalize!r} is not one of"
        f" {', '.join(_NORMALIZE)}{nearest(self.normalize, _NORMALIZE)}"
      )


class Exact:
  """The signature is the hash of the text, and the only bucket too."""

  reason = "exact duplicate"

  def __init__(self, options: Options):
    self._loose = options.normalize == "loose"

  def sign(self, texts: Sequence[str]) -> list[bytes]:
    return [self._hash(text) for text in texts]

  def keys(self, signature: bytes) -> list[bytes]:
    return [signature]

  def same(self, first: bytes, later: bytes) -> bool:
    return first == later

  def _hash(self, text: str) -> bytes:
    if self._loose:
      # Folding case can undo the composition (U+0345), so it comes first.
      text = unicodedata.normalize("NFKC", text.casefold())
      text = " ".join(text.split())
    return hashlib.blake2b(
      text.encode("utf-8", "surrogatepass"), digest_size=_SIZE
    ).digest()
