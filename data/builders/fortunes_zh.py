"""Tang and Song poems and sayings in Chinese (Debian's fortunes-zh)."""

from typing import ClassVar

import tensorflow_datasets as tfds

from .fortunes import FOLDER, Fortunes


class FortunesZh(Fortunes):
  """What `fortune-zh` says, 2 MB in simplified characters, one a document.

  The topic is the name of its file: chinese (poems, sayings, some English),
  song100 (poems of the Song), tang300 (of the Tang). Colours are left out.
  """

  VERSION = tfds.core.Version("1.0.0")
  PACKAGE: ClassVar[str] = "fortunes-zh=2.98"
  FILES: ClassVar[dict[str, str]] = {
    f"{FOLDER}/chinese": (
      "282c8d2d636e7dac0d54f6c4f25c6a22e5a0ac2d2ffa1f53ca994717d69e5ff7"
    ),
    f"{FOLDER}/song100": (
      "05a0af125f3572b895e06046c417df0f8f1b8cb9cf0b5115ee9420ae5524683b"
    ),
    f"{FOLDER}/tang300": (
      "b69cab0cb84c49dc1808d95aea7156c8911a7022ec630e194eecf360b78feff5"
    ),
  }
  HOMEPAGE: ClassVar[str] = "https://packages.debian.org/fortunes-zh"
  LICENSE: ClassVar[str] = (
    "the package is under GPL-3.0 or later; the old poems are in the public"
    " domain, other sayings are their authors'"
  )
  CITATION: ClassVar[str] = "Yu Guanghui and others: fortunes-zh, 2001-2021"
