"""Cleaning by Apache Beam, where the corpus outgrows a machine.

The same decisions as those of one process: a filter judges each document by
itself, and whether a document is a duplicate is decided in each of its buckets
alone, by comparing it with the first document there.

TFDS prepares its largest sets with Beam too; it runs here, on many machines
(`--runner=DataflowRunner`, `FlinkRunner`, `SparkRunner`) or in a few processes.
"""

import dataclasses
import importlib
import itertools
import json
import pathlib
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ..errors import UserError
from .config import DataConfig
from .passes import Decisions, Pass, passes
from .sources import SOURCES
from .texts import Text, read

# A document's place: number of its reader, number among that one's documents.
# Places sort as the corpus does.
Place = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads one piece of a source, on whichever machine."""

  number: int
  word: str
  options: Any
  piece: int
  max_bytes: int

  def __call__(self) -> Iterator[tuple[Place, Text]]:
    documents = SOURCES[self.word](self.options).piece(self.piece)
    for i, text in enumerate(read(documents, self.max_bytes)):
      yield (self.number, i), text


def readers(config: DataConfig) -> list[Reader]:
  """Returns the readers of all pieces, in the order of the corpus.

  Raises:
    UserError: `data.max_bytes` would cut a source of several pieces.
  """
  found: list[Reader] = []
  for part in config.parts:
    n = SOURCES[part.word](part.options).n_pieces()
    if config.max_bytes and n > 1:
      raise UserError(
        f"data.max_bytes={config.max_bytes} cuts {part.name!r} in one order,"
        " and Beam reads it in many at once; leave out one of the two"
      )
    first = len(found)
    found += [
      Reader(first + i, part.word, part.options, i, config.max_bytes)
      for i in range(n)
    ]
  return found


def decide(
  config: DataConfig, steps: Sequence[Any], flags: str, folder: pathlib.Path
) -> Decisions:
  """Runs the steps over the sources of a config.

  Args:
    flags: Beam's pipeline options, as on a command line.
    folder: where the workers write; all machines must see it.

  Raises:
    UserError: Beam is not installed.
  """
  try:
    beam: Any = importlib.import_module("apache_beam")
    options: Any = importlib.import_module(
      "apache_beam.options.pipeline_options"
    )
  except ImportError:
    raise UserError(
      "--beam needs Apache Beam; pip install 'ablax[beam]'"
    ) from None
  folder.mkdir(parents=True, exist_ok=True)
  with beam.Pipeline(
    options=options.PipelineOptions(shlex.split(flags))
  ) as pipeline:
    left = (
      pipeline
      | "readers" >> beam.Create(readers(config))
      | "spread" >> beam.Reshuffle()
      | "read" >> beam.FlatMap(Reader.__call__)
    )
    found = []
    for number, one in enumerate(passes(steps)):
      if found:
        dropped = (
          found[-2] | f"{number}: dropped" >> beam.Filter(_is_dropped),
          found[-1],
        ) | f"{number}: all dropped" >> beam.Flatten()
        left = (
          {"text": left, "dropped": dropped}
          | f"{number}: join" >> beam.CoGroupByKey()
          | f"{number}: left" >> beam.FlatMap(_if_not_dropped)
        )
      found += _pass(beam, left, one, number)
    _ = (
      tuple(found)
      | "decisions" >> beam.Flatten()
      | "lines" >> beam.Map(_line)
      | "write" >> beam.io.WriteToText(str(folder / "decisions"))
    )
  return _gathered(folder)


def _pass(beam: Any, left: Any, one: Pass, number: int) -> tuple[Any, Any]:
  """Returns what the filters say of each place, and which are duplicates.

  Both of (place, (number, reason, note, name, excerpt, place of the first)).
  """
  signed = (
    left
    | f"{number}: batch" >> beam.BatchElements(max_batch_size=256)
    | f"{number}: judge" >> beam.FlatMap(partial(_judged, one, number))
  )
  judged = signed | f"{number}: verdicts" >> beam.Map(_without_signature)
  if one.dedup is None:
    none = left.pipeline | f"{number}: no copies" >> beam.Create([])
    return judged, none
  copies = (
    signed
    | f"{number}: keys" >> beam.FlatMap(partial(_in_buckets, one.dedup))
    | f"{number}: buckets" >> beam.GroupByKey()
    | f"{number}: compare" >> beam.FlatMap(partial(_copies, one.dedup))
    # The first of all whose duplicate it is.
    | f"{number}: first" >> beam.CombinePerKey(_of_the_first)
  )
  return judged, copies


# What workers call is at the top of a module: they import it by name.


def _judged(one, number, batch):
  table = one([text.text for _, text in batch])
  for (place, text), row in zip(batch, table.to_pylist(), strict=True):
    verdict = (number, row["reason"], row["note"], text.name, row["excerpt"])
    yield place, ((*verdict, None), row["signature"])


def _without_signature(kv):
  place, (verdict, _) = kv
  return place, verdict


def _in_buckets(dedup, kv):
  place, (verdict, signature) = kv
  if signature is not None:
    for key in dedup.keys(signature):
      yield key, (place, signature, verdict)


def _copies(dedup, kv):
  members = sorted(kv[1], key=lambda member: member[0])
  first, of_the_first, _ = members[0]
  for place, signature, (number, _, note, name, excerpt, _) in members[1:]:
    if dedup.same(of_the_first, signature):
      yield place, (number, dedup.reason, note, name, excerpt, first)


def _of_the_first(verdicts):
  return min(verdicts, key=lambda verdict: verdict[-1])


def _is_dropped(kv):
  _, (_, reason, *_) = kv
  return bool(reason)


def _if_not_dropped(kv):
  place, found = kv
  if not list(found["dropped"]):
    yield from ((place, text) for text in found["text"])


def _line(kv):
  place, verdict = kv
  return json.dumps((*place, *verdict))


def _gathered(folder: pathlib.Path) -> Decisions:
  """Puts the workers' lines in the order of the corpus."""
  lines = [
    json.loads(line)
    for file in folder.glob("decisions-*")
    for line in file.read_text(encoding="utf-8").splitlines()
  ]
  # By place, then by pass; and in a pass the verdict of its filters, which has
  # no first, before that of its step for duplicates.
  lines.sort(key=lambda line: (*line[:3], line[-1] is not None))
  decisions, names = Decisions(), {}
  for place, verdicts in itertools.groupby(lines, lambda line: tuple(line[:2])):
    of_place = list(verdicts)
    _, _, _, reason, _, name, excerpt, of = of_place[-1]
    names[place] = name
    decisions.reasons.append(reason)
    notes = [note for *_, note, _, _, _ in of_place if note]
    decisions.notes.append(notes[-1] if notes else "")
    decisions.sample(reason, name, excerpt, names[tuple(of)] if of else "")
  return decisions
