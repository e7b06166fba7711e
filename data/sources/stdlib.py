"""Python's own library and its help in English (Python Software Foundation).

The corpus that every machine has: about 12 MB of code and 0.5 MB of English
under the PSF licence. It differs between Python versions; the fingerprint of
the prepared data says which one was read.
"""

import pathlib
import pydoc_data.topics
import sysconfig
from collections.abc import Iterator
from typing import ClassVar

from ...registry import NoOptions
from . import Document

_LEFT_OUT = {
  "site-packages",
  "dist-packages",
  "__pycache__",
  "test",
  "tests",
  "idle_test",
}
# The topics are read from their dict instead: the file would put each held-out
# topic, quoted, among the training documents.
_TOPICS_FILE = "pydoc_data/topics.py"


class Stdlib:
  """The modules of the standard library, then the topics of `help()`."""

  argument: ClassVar[str] = ""

  def __init__(self, options: NoOptions | None = None):
    del options
    self._root = pathlib.Path(sysconfig.get_path("stdlib"))

  def documents(self) -> Iterator[Document]:
    names = (
      path.relative_to(self._root).as_posix()
      for path in self._root.rglob("*.py")
    )
    for name in sorted(names):
      if name == _TOPICS_FILE or not _LEFT_OUT.isdisjoint(name.split("/")):
        continue
      try:
        # Bytes, so that line ends stay as they are on disk.
        text = (self._root / name).read_bytes().decode("utf-8")
      except UnicodeDecodeError:
        continue  # a few library files declare another encoding on purpose
      if text:
        yield Document(name, text)
    for topic, text in sorted(pydoc_data.topics.topics.items()):
      yield Document(f"pydoc_data/topics/{topic}", text)
