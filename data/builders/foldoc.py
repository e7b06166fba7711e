"""Free On-line Dictionary of Computing (Howe 2023, Debian's dict-foldoc)."""

import gzip
import string
from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from .debian import Debian

_DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_ABOUT = "00-database"  # begins the headwords of what is said of the file


class Foldoc(Debian):
  """12 thousand articles in English, 5.6 MB, in the order of the file.

  An article begins with its headwords, a line each. {Braces} are references to
  others.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "dict-foldoc=20230119-1"
  FILES: ClassVar[dict[str, str]] = {
    "usr/share/dictd/foldoc.dict.dz": (
      "f3476f455be35c3301a4dfe5406d74854d0b992bc49f4cd1737f779c99e0178f"
    ),
    "usr/share/dictd/foldoc.index": (
      "35d0d990bba9f6c314395f1dda40e32ad22d14b9ab032c0e58bcebdf6b845efc"
    ),
  }
  HOMEPAGE: ClassVar[str] = "https://foldoc.org"
  LICENSE: ClassVar[str] = (
    "GNU Free Documentation License 1.1 or later, no invariant sections"
  )
  CITATION: ClassVar[str] = (
    "The Free On-line Dictionary of Computing, http://foldoc.org/, Editor Denis"
    " Howe"
  )

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    articles = gzip.decompress(raw[0])  # a .dz is a gzip file, cut finely
    places = set()
    for line in raw[1].decode("utf-8").split("\n"):
      word, *place = line.split("\t")
      if place and not word.startswith(_ABOUT):
        places.add((_number(place[0]), _number(place[1])))
    for start, size in sorted(places):  # several words may have one article
      text = articles[start : start + size].decode("utf-8").strip("\n")
      if text:
        yield {"text": text}


def _number(text: str) -> int:
  """Reads a number in the digits of base64, as dictd writes it."""
  value = 0
  for digit in text:
    value = 64 * value + _VALUES[digit]
  return value
