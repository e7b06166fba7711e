"""events.jsonl: what happened to a run, beside its numbers."""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from .guard import Diverged

# The events that end a part of a run; the last one may be missing.
ENDS = ("finished", "stopped", "diverged", "failed")


def now() -> str:
  """The time, as it stands in events.jsonl and metrics.jsonl."""
  return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Events:
  """Appends to WORKDIR/events.jsonl; a restart takes nothing back."""

  def __init__(self, workdir: pathlib.Path):
    self._file = workdir / "events.jsonl"
    self._over = True

  def add(self, event: str, step: int, **facts: Any) -> None:
    self._over = event in ENDS or (self._over and event != "start")
    line = {"time": now(), "event": event, "step": step, **facts}
    with self._file.open("a", encoding="utf-8") as stream:
      stream.write(json.dumps(line) + "\n")

  def error(self, step: int, error: BaseException) -> None:
    """How this part of the run fails, unless it has ended already."""
    if self._over:
      return
    kind = "diverged" if isinstance(error, Diverged) else "failed"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    self.add(kind, step, text=text[:1000])

  @contextlib.contextmanager
  def told(self, step: Callable[[], int], **facts: Any) -> Iterator[None]:
    """Writes the beginning of a part of the run, and how it fails if it does.

    Args:
      step: gives the updates done, when asked.
      facts: of this part, such as its devices.
    """
    self.add(
      "start", step(), pid=os.getpid(), host=socket.gethostname(), **facts
    )
    try:
      yield
    except BaseException as error:
      self.error(step(), error)
      raise
