"""300 English news stories (Lee et al. 2005, gensim's test data)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from .packaged import Packaged


class LeeNews(Packaged):
  """The background corpus of a study of how alike people find documents.

  Stories of the Australian Broadcasting Corporation's news mail of 2000 and
  2001, one a line; a few come twice.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "gensim==4.4.0"
  FILES: ClassVar[dict[str, str]] = {
    "gensim/test/test_data/lee_background.cor": (
      "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"
    ),
  }
  HOMEPAGE: ClassVar[str] = "https://github.com/piskvorky/gensim"
  LICENSE: ClassVar[str] = (
    "no licence is stated; the stories are the Australian Broadcasting"
    " Corporation's, given out for research"
  )
  CITATION: ClassVar[str] = (
    "Lee, Pincombe and Welsh: An empirical evaluation of models of text"
    " document similarity. Annual Meeting of the Cognitive Science Society,"
    " 2005"
  )

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    for story in raw[0].decode("utf-8").split("\n"):
      yield {"text": story}
