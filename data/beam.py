"""Cleaning by Apache Beam, where the corpus outgrows a machine.

The same decisions as those of one process: a filter judges each document by
itself, and whether a document is a duplicate is decided in each of its buckets
alone, by comparing it with the first document there.

TFDS prepares its largest sets with Beam too; it runs here, on many machines
(`--runner=DataflowRunner`, `FlinkRunner`, `SparkRunner`) or in a few processes.
"""

import dataclasses
import itertools
import json
import pathlib
import shlex
from collections.abc import Iterator, Sequence
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
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError:
    raise UserError(
      "--beam needs Apache Beam; pip install 'ablax[beam]'"
    ) from None
  folder.mkdir(parents=True, exist_ok=True)
  with beam.Pipeline(options=PipelineOptions(shlex.split(flags))) as pipeline:
    left = (
      pipeline
      | "readers" >> beam.Create(readers(config))
      | "spread" >> beam.Reshuffle()
      | "read" >> beam.FlatMap(lambda reader: reader())
    )
    found = []
    for number, one in enumerate(passes(steps)):
      judged, copies = _pass(beam, left, one, number)
      found += [judged, copies]
      dropped = (
        (judged | f"{number}: dropped" >> beam.Filter(lambda kv: kv[1][1])),
        copies,
      ) | f"{number}: all dropped" >> beam.Flatten()
      left = (
        {"text": left, "dropped": dropped}
        | f"{number}: join" >> beam.CoGroupByKey()
        | f"{number}: left"
        >> beam.FlatMap(
          lambda kv: (
            []
            if list(kv[1]["dropped"])
            else [(kv[0], t) for t in kv[1]["text"]]
          )
        )
      )
    _ = (
      tuple(found)
      | "decisions" >> beam.Flatten()
      | "lines" >> beam.Map(lambda kv: json.dumps((*kv[0], *kv[1])))
      | "write" >> beam.io.WriteToText(str(folder / "decisions"))
    )
  return _gathered(folder)


def _pass(beam: Any, left: Any, one: Pass, number: int) -> tuple[Any, Any]:
  """Returns what the filters say of each place, and which are duplicates.

  Both of (place, (number, reason, note, name, excerpt, place of the first)).
  """

  def judge(batch):
    table = one([text.text for _, text in batch])
    for (place, text), row in zip(batch, table.to_pylist(), strict=True):
      verdict = (number, row["reason"], row["note"], text.name, row["excerpt"])
      yield place, ((*verdict, None), row["signature"])

  signed = (
    left
    | f"{number}: batch" >> beam.BatchElements(max_batch_size=256)
    | f"{number}: judge" >> beam.FlatMap(judge)
  )
  judged = signed | f"{number}: verdicts" >> beam.Map(
    lambda kv: (kv[0], kv[1][0])
  )
  dedup = one.dedup
  if dedup is None:
    none = left.pipeline | f"{number}: no copies" >> beam.Create([])
    return judged, none

  def bucketed(kv):
    place, (verdict, signature) = kv
    if signature is not None:
      for key in dedup.keys(signature):
        yield key, (place, signature, verdict)

  def compared(kv):
    (first, signature_of_first, _), *later = sorted(
      kv[1], key=lambda member: member[0]
    )
    for place, signature, (_, _, note, name, excerpt, _) in later:
      if dedup.same(signature_of_first, signature):
        yield place, (number, dedup.reason, note, name, excerpt, first)

  copies = (
    signed
    | f"{number}: buckets" >> beam.FlatMap(bucketed)
    | f"{number}: group" >> beam.GroupByKey()
    | f"{number}: compare" >> beam.FlatMap(compared)
    # The first of all whose duplicate it is.
    | f"{number}: first"
    >> beam.CombinePerKey(lambda found: min(found, key=lambda v: v[-1]))
  )
  return judged, copies


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
