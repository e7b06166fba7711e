"""Progress bars for the passes over the documents."""

from collections.abc import Iterable, Iterator
from typing import Any

from .texts import Text, Track, untracked


class Progress:
  """Shows one bar on stderr for each pass over the documents."""

  def __init__(self, shown: bool):
    self._bar: Any = None
    if shown:
      from rich import progress
      from rich.console import Console

      self._bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
      )

  def __enter__(self) -> Track:
    if self._bar is None:
      return untracked
    self._bar.start()
    return self._track

  def __exit__(self, *exception: object) -> None:
    if self._bar is not None:
      self._bar.stop()

  def _track(
    self, what: str, texts: Iterable[Text], total: int
  ) -> Iterator[Text]:
    task = self._bar.add_task(what, total=total or None)
    for text in texts:
      yield text
      self._bar.advance(task, text.size)
    self._bar.update(task, total=total or 1, completed=total or 1)
