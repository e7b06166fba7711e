"""The King James Bible, by chapter (1611, Debian's bible-kjv-text)."""

import itertools
import re
import struct
import subprocess
from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from .debian import Debian

_N_WINDOWS = 0x58  # offset of their number; behind it, where each begins
_MAGIC = b"\x1f\x9d\x90"  # of compress, which only the first window has
_VERSE = re.compile(r"(\d?[A-Za-z]+)(\d+):\d+ (.*)")  # 1Sa2:3 ...


class BibleKjv(Debian):
  """Both Testaments in the Authorized Version, 4.2 MB: 1189 chapters.

  A document is a chapter, a line a verse, without its number; the title is the
  book and the number of the chapter, as in "1Sa 2".
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "bible-kjv-text=4.38"
  FILES: ClassVar[dict[str, str]] = {
    "usr/lib/bible.data": (
      "6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e"
    ),
  }
  FEATURES: ClassVar[tuple[str, ...]] = ("title", "text")
  HOMEPAGE: ClassVar[str] = "https://packages.debian.org/bible-kjv-text"
  LICENSE: ClassVar[str] = (
    "the text's copyright has expired (in the United Kingdom the Crown holds a"
    " patent on printing it); the data file is for unrestricted use, with its"
    " legend"
  )
  CITATION: ClassVar[str] = (
    "The Holy Bible, Authorized (King James) Version, 1611; Chip Chapin: Bible"
    " Retrieval System, 1993"
  )

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    lines = _text(raw[0]).decode("ascii").splitlines()
    verses = filter(None, map(_VERSE.fullmatch, lines))  # not the first line
    for (book, chapter), some in itertools.groupby(
      verses, lambda verse: verse.groups()[:2]
    ):
      text = "\n".join(verse[3] for verse in some)
      yield {"title": f"{book} {chapter}", "text": text}


def _text(data: bytes) -> bytes:
  """Unpacks the windows, each a stream of its own of compress (LZW)."""
  (n,) = struct.unpack_from(">I", data, _N_WINDOWS)
  starts = struct.unpack_from(f">{n + 1}I", data, _N_WINDOWS + 4)
  windows = []
  for start, end in itertools.pairwise(starts):
    window = _MAGIC + data[start:end].removeprefix(_MAGIC)
    # Python has no LZW, and whoever has the package has gzip.
    windows.append(
      subprocess.run(
        ["gzip", "-dc"], input=window, capture_output=True, check=True
      ).stdout
    )
  return b"".join(windows)
