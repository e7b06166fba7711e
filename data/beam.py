"""Cleaning by Apache Beam, where the corpus outgrows a machine.

The same decisions as those of one process: a filter judges each document by
itself, and whether a document is a duplicate is decided in each of its buckets
alone, by comparing it with the first document there.

Beam reads the text twice: for its hashes, then, unless the decisions are in the
cache, to clean it. TFDS prepares its largest sets with Beam too; it runs here,
on many machines (`--runner=DataflowRunner`, `FlinkRunner`, `SparkRunner`) or in
a few processes.

What stays with the process that starts it: it reads the text once for the
tokenizer, if that is to be trained, and once to pack it; and it keeps about 100
bytes of memory for each document, its hash, size, name and verdict.
"""

import contextlib
import dataclasses
import importlib
import json
import pathlib
import secrets
import shlex
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import feather

from ..errors import UserError, nearest
from .cache import root, scratch
from .config import DataConfig
from .passes import SAMPLES, Decisions, Pass, passes
from .sources import SOURCES
from .texts import Text, changed, listed, read
from .work import travels


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads one piece of a source, on whichever machine.

  Attributes:
    part: number of the source.
    kind: of the source: a class, which workers import.
    first: number in the corpus of the piece's first document.
  """

  number: int
  part: int
  kind: Any
  options: Any
  piece: int
  max_bytes: int
  first: int = 0

  def texts(self) -> Iterator[Text]:
    return read(self.kind(self.options).piece(self.piece), self.max_bytes)

  def numbered(self) -> Iterator[tuple[int, Text]]:
    """Yields the documents that are not empty, by their place in the corpus."""
    for place, text in enumerate(self.texts(), self.first):
      if text.size:
        yield place, text

  def list(self, folder: str) -> Iterator[None]:
    """Writes `listed`; yields nothing."""
    feather.write_feather(listed(self.texts()), self.file(folder))
    return iter(())

  def file(self, folder: str) -> str:
    return f"{folder}/{self.number:07}.arrow"


def readers(config: DataConfig) -> list[Reader]:
  """Returns the readers of all pieces, in the order of the corpus.

  Raises:
    UserError: `data.max_bytes` would cut a source of several pieces, or a
      source is one that workers cannot import.
  """
  found: list[Reader] = []
  for number, part in enumerate(config.parts):
    kind = SOURCES[part.word]
    _check_travels(f"data.source={part.name!r}", kind)
    n = kind(part.options).n_pieces()
    if config.max_bytes and n > 1:
      raise UserError(
        f"data.max_bytes={config.max_bytes} cuts {part.name!r} in one order,"
        " and Beam reads it in many at once; leave out one of the two"
      )
    found += [
      Reader(len(found) + i, number, kind, part.options, i, config.max_bytes)
      for i in range(n)
    ]
  return found


class Beam:
  """What Beam does for a corpus; what it cannot do is told at once.

  Args:
    flags: pipeline options, as on a command line.

  Raises:
    UserError: Beam is not installed, the flags are not what it takes, or its
      workers could not import a plugin's source or step.
  """

  def __init__(self, config: DataConfig, steps: Mapping[str, Any], flags: str):
    try:
      self._beam: Any = importlib.import_module("apache_beam")
    except ImportError:
      raise UserError(
        "--beam needs Apache Beam; pip install 'ablax[beam]'"
      ) from None
    self._flags = flags
    self._readers = readers(config)
    for name, step in steps.items():
      _check_travels(f"data.clean={name!r}", type(step))
    self._passes = passes(list(steps.values()))
    self._check_flags()

  def listings(self) -> list[pa.Table]:
    """Returns what `texts.listed` does, of each source."""
    found: dict[int, list[pa.Table]] = {}
    first = 0
    with scratch(root() / "work" / "listing") as folder:
      with self._running() as pipeline:
        _ = self._read(pipeline, partial(Reader.list, folder=str(folder)))
      for i, reader in enumerate(self._readers):
        table = feather.read_table(reader.file(str(folder)), memory_map=False)
        self._readers[i] = dataclasses.replace(reader, first=first)
        found.setdefault(reader.part, []).append(table)
        first += len(table)
    return [pa.concat_tables(tables) for tables in found.values()]

  def decide(
    self, decisions: Decisions, listing: pa.Table, folder: pathlib.Path
  ) -> None:
    """Runs the steps over what the decisions leave, and adds theirs.

    Args:
      listing: of the corpus, which must be as it was.
      folder: where the workers write; all machines must see it.
    """
    beam = self._beam
    # Of its own: what a killed run has left there is not complete.
    folder = folder / secrets.token_hex(8)
    folder.mkdir(parents=True)
    with self._running() as pipeline:
      left = self._read(pipeline, Reader.numbered)
      dropped = []
      for number, one in enumerate(self._passes):
        if number:
          left = (
            {"text": left, "dropped": dropped[-1]}
            | f"{number}: join" >> beam.CoGroupByKey()
            | f"{number}: left" >> beam.FlatMap(_if_not_dropped)
          )
        verdicts = _pass(beam, left, one, number)
        dropped.append(
          verdicts | f"{number}: dropped" >> beam.Filter(_is_dropped)
        )
        _ = (
          verdicts
          | f"{number}: lines" >> beam.Map(_line)
          | f"{number}: write" >> beam.io.WriteToText(f"{folder}/{number}")
        )
      _ = (
        tuple(dropped)
        | "all dropped" >> beam.Flatten()
        | "reasons" >> beam.Map(_by_reason)
        | "samples" >> beam.combiners.Top.SmallestPerKey(SAMPLES)
        | "sample lines" >> beam.Map(json.dumps)
        | "write samples" >> beam.io.WriteToText(f"{folder}/samples")
      )
    is_seen = bytearray(len(listing))
    n_left = len(decisions.left())
    for number in range(len(self._passes)):
      for place, reason, note, sha256 in _lines(folder, str(number)):
        if (
          place >= len(listing)
          or sha256 != listing["sha256"][place].as_py().hex()
        ):
          raise changed()
        is_seen[place] = True
        decisions.reasons[place] = reason or decisions.reasons[place]
        decisions.notes[place] = note or decisions.notes[place]
    if sum(is_seen) != n_left:
      raise changed()
    for reason, samples in _lines(folder, "samples"):
      for place, excerpt, of in samples:
        decisions.sample(reason, place, excerpt, of)

  def _pipeline(self) -> Any:
    options: Any = importlib.import_module(
      "apache_beam.options.pipeline_options"
    )
    try:
      return self._beam.Pipeline(
        options=options.PipelineOptions(shlex.split(self._flags))
      )
    except (ValueError, ImportError, AttributeError, RuntimeError) as error:
      raise self._refused(error) from None

  def _check_flags(self) -> None:
    pipeline = self._pipeline()
    if "Direct" not in type(pipeline.runner).__name__:
      return  # another runner's service may know what Beam does not
    known, given = (
      set(pipeline.options.get_all_options(retain_unknown_options=retain))
      for retain in (False, True)
    )
    for flag in sorted(given - known):
      raise UserError(
        f"--beam={self._flags!r}: --{flag} is not one of Beam's options"
        f"{nearest(flag, known)}"
      )

  @contextlib.contextmanager
  def _running(self) -> Iterator[Any]:
    """Gives a pipeline, and runs it at the end."""
    try:
      with self._pipeline() as pipeline:
        yield pipeline
    except RuntimeError as error:
      # What a step or a source raises is not the runner's fault.
      if "while running" in str(error):
        raise
      raise self._refused(error) from error

  def _refused(self, error: Exception) -> UserError:
    told = " ".join(str(error).split()) or type(error).__name__
    return UserError(
      f"--beam={self._flags!r}: {told}; set the options that Beam documents for"
      " its runners"
    )

  def _read(self, pipeline: Any, read: Any) -> Any:
    beam = self._beam
    return (
      pipeline
      | "readers" >> beam.Create(self._readers)
      | "spread" >> beam.Reshuffle()
      | "read" >> beam.FlatMap(read)
    )


def _check_travels(what: str, kind: Any) -> None:
  if not travels(kind):
    raise UserError(
      f"{what} is of a plugin, which Beam's workers do not import; leave out"
      " --beam, or install it as a package"
    )


def _pass(beam: Any, left: Any, one: Pass, number: int) -> Any:
  """Returns what the filters say of each place, and which are duplicates.

  (place, (reason, note, sha256, excerpt, place of the first)) of both.
  """
  signed = (
    left
    | f"{number}: batch" >> beam.BatchElements(max_batch_size=256)
    | f"{number}: judge" >> beam.FlatMap(partial(_judged, one))
  )
  judged = signed | f"{number}: verdicts" >> beam.Map(_without_signature)
  if one.dedup is None:
    return judged
  copies = (
    signed
    | f"{number}: keys" >> beam.FlatMap(partial(_in_buckets, one.dedup))
    | f"{number}: buckets" >> beam.GroupByKey()
    | f"{number}: compare" >> beam.FlatMap(partial(_copies, one.dedup))
    # The first of all whose duplicate it is.
    | f"{number}: first" >> beam.CombinePerKey(_of_the_first)
  )
  return (judged, copies) | f"{number}: decided" >> beam.Flatten()


# What workers call is at the top of a module: they import it by name.


def _judged(one, batch):
  table = one([text.text for _, text in batch])
  for (place, text), row in zip(batch, table.to_pylist(), strict=True):
    verdict = (row["reason"], row["note"], text.sha256.hex(), row["excerpt"])
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
  for place, signature, (_, note, sha256, excerpt, _) in members[1:]:
    if dedup.same(of_the_first, signature):
      yield place, (dedup.reason, note, sha256, excerpt, first)


def _of_the_first(verdicts):
  return min(verdicts, key=lambda verdict: verdict[-1])


def _is_dropped(kv):
  _, (reason, *_) = kv
  return bool(reason)


def _if_not_dropped(kv):
  place, found = kv
  if not list(found["dropped"]):
    yield from ((place, text) for text in found["text"])


def _line(kv):
  place, (reason, note, sha256, *_) = kv
  return json.dumps((place, reason, note, sha256))


def _by_reason(kv):
  place, (reason, _, _, excerpt, of) = kv
  return reason, (place, excerpt, of)


def _lines(folder: pathlib.Path, name: str) -> Iterator[Any]:
  """Yields what the workers have written, in any order."""
  for file in folder.glob(f"{name}-*"):
    with file.open(encoding="utf-8") as lines:
      yield from map(json.loads, lines)
