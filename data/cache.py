"""A folder is in the cache whole or not at all, whoever builds it and dies."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable

_SIZES = "files.json"  # written last: the bytes that each file must have
_ABANDONED = 24 * 3600  # seconds after which an unfinished folder is rubbish


def root() -> pathlib.Path:
  """Returns `$ABLAX_CACHE`, or `~/.cache/ablax`."""
  named = os.environ.get("ABLAX_CACHE")
  if named:
    return pathlib.Path(named).expanduser().absolute()
  return pathlib.Path.home() / ".cache" / "ablax"


def cached(
  folder: pathlib.Path, build: Callable[[pathlib.Path], None]
) -> pathlib.Path:
  """Returns `folder`, filled by `build` where it is missing or not whole.

  `build` gets an empty folder beside it, which is renamed when it is done. Two
  processes at once both build, and the first to finish is kept.
  """
  if _is_whole(folder):
    return folder
  folder.parent.mkdir(parents=True, exist_ok=True)
  for other in folder.parent.glob(f".{folder.name}.*"):
    with contextlib.suppress(FileNotFoundError):
      if time.time() - other.stat().st_mtime > _ABANDONED:
        shutil.rmtree(other)
  new = pathlib.Path(
    tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
  )
  try:
    build(new)
    sizes = {file.name: file.stat().st_size for file in new.iterdir()}
    (new / _SIZES).write_text(json.dumps(sizes))
    new.chmod(0o755)  # mkdtemp's 0700 would keep others from a shared cache
    _put(new, folder)
  finally:
    shutil.rmtree(new, ignore_errors=True)
  return folder


def _is_whole(folder: pathlib.Path) -> bool:
  try:
    sizes = json.loads((folder / _SIZES).read_text())
    return all(
      (folder / name).stat().st_size == size for name, size in sizes.items()
    )
  except (OSError, ValueError):
    return False


def _put(new: pathlib.Path, folder: pathlib.Path) -> None:
  if folder.exists() and not _is_whole(folder):
    broken = new.with_name(f"{new.name}.broken")
    with contextlib.suppress(FileNotFoundError):  # another has moved it away
      folder.rename(broken)
    shutil.rmtree(broken, ignore_errors=True)
  try:
    new.rename(folder)
  except OSError:
    if not _is_whole(folder):  # else another process was first
      raise
