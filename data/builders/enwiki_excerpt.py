"""106 English Wikipedia articles in wikitext (May 2016, gensim's test data)."""

import bz2
import io
from collections.abc import Iterator, Mapping
from typing import ClassVar
from xml.etree import ElementTree

import tensorflow_datasets as tfds

from .packaged import Packaged

_NAMESPACE = "{http://www.mediawiki.org/xml/export-0.10/}"


class EnwikiExcerpt(Packaged):
  """The articles among the first 206 pages of the dump of May 2016.

  Wikitext as it is stored, 5.7 MB; the 100 pages that only redirect are left
  out. From "Anarchism" to "Algorithm", in the order of the dump.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "gensim==4.4.0"
  FILES: ClassVar[dict[str, str]] = {
    "gensim/test/test_data/"
    "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2": (
      "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
    ),
  }
  FEATURES: ClassVar[tuple[str, ...]] = ("title", "text")
  HOMEPAGE: ClassVar[str] = "https://en.wikipedia.org"
  LICENSE: ClassVar[str] = "CC BY-SA 3.0 and GFDL, by Wikipedia's contributors"
  CITATION: ClassVar[str] = "Wikipedia, English, dump of 2016-05-01"

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    dump = io.BytesIO(bz2.decompress(raw[0]))
    for _, page in ElementTree.iterparse(dump):
      if page.tag != f"{_NAMESPACE}page":
        continue
      if page.find(f"{_NAMESPACE}redirect") is None:
        yield {
          "title": page.findtext(f"{_NAMESPACE}title", ""),
          "text": page.findtext(f"{_NAMESPACE}revision/{_NAMESPACE}text", ""),
        }
      page.clear()
