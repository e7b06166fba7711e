"""A folder is in the cache whole or not at all, whoever builds it and dies."""

import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator

_SIZES = "files.json"  # written last: the bytes that each file must have


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
  processes at once both build, and the first to finish is kept. What dead ones
  have left beside it is removed.
  """
  _sweep(folder.parent)
  if not _is_whole(folder):
    with scratch(folder) as new:
      build(new)
      sizes = {file.name: file.stat().st_size for file in new.iterdir()}
      (new / _SIZES).write_text(json.dumps(sizes))
      _put(new, folder)
  return folder


@contextlib.contextmanager
def scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a new folder beside another; it is removed at the end.

  If its process dies, the next to need one there removes it.
  """
  _sweep(folder.parent)
  new = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.unfinished")
  with held(new):
    try:
      yield new
    finally:
      shutil.rmtree(new, ignore_errors=True)


def _sweep(parent: pathlib.Path) -> None:
  for left in parent.glob(".*.unfinished"):
    remove_unheld(left)


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Makes a folder, and keeps `remove_unheld` from it until the block ends.

  The lock is the kernel's: it ends with its process, however that dies.
  """
  opened = _locked(folder)
  while opened is None:
    opened = _locked(folder)
  try:
    yield
  finally:
    os.close(opened)


def remove_unheld(folder: pathlib.Path) -> None:
  """Removes a folder unless a process holds it."""
  with contextlib.suppress(OSError):
    opened = os.open(folder, os.O_RDONLY)
    try:
      fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
      shutil.rmtree(folder, ignore_errors=True)
    finally:
      os.close(opened)


def _locked(folder: pathlib.Path) -> int | None:
  """Returns the folder opened and locked; None if it was just removed."""
  folder.mkdir(parents=True, exist_ok=True)
  opened = None
  with contextlib.suppress(FileNotFoundError):
    opened = os.open(folder, os.O_RDONLY)
    # A file system without locks refuses the one of `remove_unheld` as well.
    with contextlib.suppress(OSError):
      fcntl.flock(opened, fcntl.LOCK_SH)
    if os.path.samestat(os.fstat(opened), folder.stat()):
      return opened
  if opened is not None:
    os.close(opened)
  return None


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
    broken = new.with_name(f".broken{new.name}")
    with contextlib.suppress(FileNotFoundError):  # another has moved it away
      folder.rename(broken)
    shutil.rmtree(broken, ignore_errors=True)
  try:
    new.rename(folder)
  except OSError:
    if not _is_whole(folder):  # else another process was first
      raise
