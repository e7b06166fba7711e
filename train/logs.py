"""What a run writes as it goes: lines of JSON, TensorBoard and W&B."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Sink(Protocol):
  """Takes the numbers of an update; opened at the step that a run goes on."""

  def write(self, step: int, metrics: Mapping[str, Any]) -> None: ...

  def flush(self) -> None:
    """Writes out what is in memory, so that a kill cannot lose it."""

  def close(self) -> None: ...


class JsonLines:
  """A file of one JSON object a line; those after `step` are dropped.

  What is not finite, such as the gradient norm of a skipped update, becomes
  null: JSON has no word for it.
  """

  def __init__(self, file: pathlib.Path, step: int):
    kept = [line for line in read_lines(file) if line["step"] <= step]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    # Whole or not at all: a kill here must not cost the history.
    partial = file.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
    self._stream = file.open("a", encoding="utf-8")

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    line = {"step": step, **finite(metrics)}
    self._stream.write(json.dumps(line) + "\n")
    self.flush()

  def flush(self) -> None:
    self._stream.flush()

  def close(self) -> None:
    self._stream.close()


class TensorBoard:
  """Event files; numbers alone, and nested names with slashes."""

  def __init__(self, folder: pathlib.Path, step: int):
    from tensorboardX import SummaryWriter

    self._events = SummaryWriter(str(folder), purge_step=step + 1)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    for name, value in numbers(metrics):
      self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    self._events.flush()

  def close(self) -> None:
    self._events.close()


class Logs:
  """All that a run logs to.

  Args:
    step: that the run goes on from; later lines are dropped.
    more: sinks besides metrics.jsonl and TensorBoard.
  """

  def __init__(
    self, workdir: pathlib.Path, step: int, more: Sequence[Sink] = ()
  ):
    self._lines = JsonLines(workdir / "metrics.jsonl", step)
    self._events: list[Sink] = [TensorBoard(workdir / "tensorboard", step)]
    self._events += more
    self._detail_file = workdir / "detail.jsonl"
    self._detail = None
    if self._detail_file.exists():
      self._detail = JsonLines(self._detail_file, step)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends one line to metrics.jsonl, and its numbers to the rest."""
    for sink in (self._lines, *self._events):
      sink.write(step, metrics)

  def write_detail(self, step: int, detail: Mapping[str, Any]) -> None:
    """The same with detail.jsonl, under names of their own."""
    if self._detail is None:
      self._detail = JsonLines(self._detail_file, step)
    self._detail.write(step, detail)
    for sink in self._events:
      sink.write(step, {"detail": detail})

  def flush(self) -> None:
    for sink in self._sinks():
      sink.flush()

  def close(self) -> None:
    for sink in self._sinks():
      sink.close()

  def _sinks(self) -> list[Sink]:
    detail = [self._detail] if self._detail else []
    return [self._lines, *self._events, *detail]


def numbers(
  metrics: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, float | int]]:
  """The numbers of nested metrics, with their names joined by slashes."""
  found = []
  for name, value in metrics.items():
    if isinstance(value, Mapping):
      found += numbers(value, f"{prefix}{name}/")
    elif isinstance(value, int | float):
      found.append((prefix + name, value))
  return found


def finite(value: Any) -> Any:
  """The value with None, JSON's null, for each number that is not finite."""
  if isinstance(value, Mapping):
    return {k: finite(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [finite(v) for v in value]
  return (
    None if isinstance(value, float) and not math.isfinite(value) else value
  )


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of metrics.jsonl; a last one that a kill cut off is left out."""
  return read_lines(workdir / "metrics.jsonl")


def read_lines(file: pathlib.Path) -> list[dict[str, Any]]:
  """The JSON objects of a file, up to the first line that is none."""
  if not file.is_file():
    return []
  lines = []
  for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      break
    if not isinstance(line, dict):
      break
    lines.append(line)
  return lines
