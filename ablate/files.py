"""Files of a sweep in any folder that fsspec reaches, whole or not there."""

import os
import pathlib
import socket
from typing import Any

import fsspec

from ..errors import UserError

Folder = str | os.PathLike[str]


def _reach(folder: Folder) -> tuple[Any, str]:
  """The file system of a folder, and its path there.

  Raises:
    UserError: the path's protocol is unknown, or its package is missing.
  """
  text = os.fspath(folder)
  if "://" not in text:
    text = str(pathlib.Path(text).expanduser().absolute())
  try:
    system, path = fsspec.url_to_fs(text)
  except (ValueError, ImportError) as error:
    reason = " ".join(str(error).split())
    raise UserError(
      f"{text} cannot be reached: {reason}; give a folder of this machine, or"
      " install the package that fsspec names"
    ) from None
  return system, path.rstrip("/")


def is_local(folder: Folder) -> bool:
  return "://" not in os.fspath(folder)


def write_whole(folder: Folder, name: str, data: bytes) -> None:
  """Writes folder/name; a kill leaves what was there before.

  An object store shows an object when all of it has come; on a disk the file
  is renamed when it is complete.
  """
  system, path = _reach(folder)
  target = f"{path}/{name}"
  system.makedirs(target.rpartition("/")[0], exist_ok=True)
  if is_local(folder):
    partial = pathlib.Path(partial_name(target))
    try:
      partial.write_bytes(data)
      partial.replace(target)
    finally:
      partial.unlink(missing_ok=True)
  else:
    system.pipe_file(target, data)


def partial_name(target: str) -> str:
  """One's own, also among hosts whose processes have the same numbers."""
  return f"{target}.{socket.gethostname()}-{os.getpid()}.tmp"


def read_whole(folder: Folder, name: str) -> bytes | None:
  """The bytes of folder/name, or None where there is no such file."""
  system, path = _reach(folder)
  try:
    return system.cat_file(f"{path}/{name}")
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
    return None
