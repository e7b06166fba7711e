"""A TFDS builder whose raw files lie in a Debian package.

Installed on this machine, or unpacked under the cache, which needs no root.
"""

import pathlib
from collections.abc import Callable

from ..cache import root
from .packaged import Packaged, read_if_there


class Debian(Packaged, skip_registration=True):
  """As `Packaged`; the first line of a subclass's file names the package.

  Attributes:
    PACKAGE: name and version, as apt-get takes them.
    FILES: path from the root of the file system -> sha256.
  """

  @classmethod
  def fix(cls) -> str:
    name = cls.PACKAGE.split("=")[0]
    # dpkg makes the folder, but not those above it.
    return (
      f"apt-get install {cls.PACKAGE}, or without root: apt-get download"
      f" {cls.PACKAGE} && mkdir -p {unpacked()} && dpkg -x {name}_*.deb"
      f" {unpacked()}"
    )

  @classmethod
  def opened(cls) -> tuple[str, Callable[[str], bytes]]:
    name = cls.PACKAGE.split("=")[0]
    for place in (unpacked(), pathlib.Path("/")):
      if any((place / file).is_file() for file in cls.FILES):
        return (
          f"Debian's {name} in {place}",
          lambda file, place=place: read_if_there(place / file),
        )
    raise cls.missing(f"Debian's package {name}", "installed")


def unpacked() -> pathlib.Path:
  """Returns where packages lie that were not installed but unpacked."""
  return root() / "debian"
