"""Which code made a number: a hash of the sources that can change one."""

import functools
import hashlib
import pathlib
import platform
from importlib import metadata

from .. import __version__

_FOLDERS = ("data", "infer", "kernels", "models", "parallel", "train")
_PACKAGES = ("jax", "jaxlib", "flax", "optax")


@functools.cache
def code_version() -> str:
  """One line; a commit that changes only documents gives the same."""
  root = pathlib.Path(__file__).resolve().parent.parent
  files = [f for folder in _FOLDERS for f in (root / folder).rglob("*.py")]
  found = hashlib.sha256()
  for file in sorted(files):
    found.update(file.relative_to(root).as_posix().encode() + b"\0")
    found.update(file.read_bytes() + b"\0")
  parts = [f"ablax {__version__} source {found.hexdigest()[:10]}"]
  parts += [f"{name} {metadata.version(name)}" for name in _PACKAGES]
  return ", ".join([*parts, f"python {platform.python_version()}"])
