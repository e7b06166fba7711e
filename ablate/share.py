"""A folder that several machines share, at any fsspec address.

It holds sweep.json and each finished run's run.json, so that a run that any
machine has finished is computed nowhere else.
"""

import pathlib

from ..errors import UserError
from . import plan as plans
from . import result
from .files import read_whole, write_whole


class Share:
  """The shared folder, and this machine's copy of its results.

  Args:
    address: as fsspec takes it, such as gs://bucket/sweep or a path.
    folder: this machine's folder of the sweep.
  """

  def __init__(self, address: str, folder: pathlib.Path):
    self._address = address
    self._folder = folder

  def fetch_plan(self) -> None:
    """Takes over the plan of the machine that began, where there is one."""
    self._fetch(plans.FILE)

  def put_plan(self) -> None:
    self._put(plans.FILE)

  def fetch_result(self, workdir: str) -> None:
    """Brings a run's result here, where another machine has it.

    What failed here is tried again elsewhere: that one's result is taken.
    """
    name = f"{workdir}/{result.FILE}"
    here = result.read_result(self._folder / name)
    self._fetch(name, again=here is None or here.status == "failed")

  def put_result(self, workdir: str) -> None:
    if (self._folder / workdir / result.FILE).exists():
      self._put(f"{workdir}/{result.FILE}")

  def put_report(self) -> None:
    """The tables and figures, beside the results."""
    for file in (*self._folder.iterdir(), *self._folder.glob("figures/*")):
      if file.is_file() and file.suffix != ".tmp":
        self._put(file.relative_to(self._folder).as_posix())

  def _fetch(self, name: str, again: bool = False) -> None:
    if (self._folder / name).exists() and not again:
      return
    if (data := read_whole(self._address, name)) is not None:
      write_whole(self._folder, name, data)

  def _put(self, name: str) -> None:
    write_whole(self._address, name, (self._folder / name).read_bytes())


def shard_of(text: str) -> tuple[int, int]:
  """(i, n) of `--shard=i/n`, i from 0.

  Raises:
    UserError: it is not of that form.
  """
  try:
    i, n = map(int, text.split("/"))
  except ValueError:
    i, n = 0, 0
  if not 0 <= i < n:
    raise UserError(
      f"--shard={text} must be i/n with 0 <= i < n, as in --shard=0/4"
    )
  return i, n
