"""Which documents are kept: the cleaning steps, over the whole corpus.

A pass reads what is left of the corpus: its filters judge each document, and
at its end, where it has one, a step for duplicates compares what they kept.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from . import work
from .cache import cached, root
from .cleaning import CLEANERS, Duplicates, Filter, duplicates
from .config import DataConfig
from .texts import Text, Track, batched

FORMAT = 1  # of what is in the cache; raise it when that changes
_EXCERPT = 200  # characters of a sample
_SAMPLES = 5  # of what a reason drops


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """What the steps have decided, in the order of the corpus.

  Attributes:
    folder: holds decisions.parquet (a row for each document: reason, "" where
      it is kept, and note) and samples.json.
    reasons: why each document is dropped; "" keeps it.
    notes: what the steps noted of each.
    samples: reason -> names and beginnings of documents that it drops.
    facts: step -> what it says of itself.
  """

  folder: pathlib.Path
  reasons: list[str]
  notes: list[str]
  samples: dict[str, list[dict[str, str]]]
  facts: dict[str, dict[str, Any]]


def clean(
  config: DataConfig,
  read: Callable[[], Iterator[Text]],
  fingerprint: str,
  n_bytes: int,
  track: Track,
  workers: int = 1,
) -> Cleaning:
  """Returns the decisions of `config.clean`, from the cache if they are there.

  Args:
    read: gives all documents, the same each time.
    fingerprint: of those documents.
    n_bytes: of UTF-8, about.
    workers: processes; the result does not depend on it.
  """
  steps = make_steps(config)
  # Before the steps are named: what one learns now is part of its name.
  facts = {
    name: step.facts() for name, step in steps.items() if hasattr(step, "facts")
  }
  key = _key(config, steps, fingerprint)
  unfinished = root() / "work" / f"clean-{key}"

  def build(folder: pathlib.Path) -> None:
    def texts(what: str, kept: Sequence[str] | None) -> Iterator[Text]:
      everything = track(f"cleaning: {what}", read(), n_bytes)
      if kept is None:
        return everything
      return (
        text
        for text, reason in zip(everything, kept, strict=True)
        if not reason
      )

    _decide(steps, texts, unfinished, workers, folder)

  folder = cached(root() / "cleaned" / key, build)
  work.forget(unfinished)
  table = parquet.read_table(folder / "decisions.parquet")
  return Cleaning(
    folder,
    table["reason"].to_pylist(),
    table["note"].to_pylist(),
    json.loads((folder / "samples.json").read_text(encoding="utf-8")),
    facts,
  )


def make_steps(config: DataConfig) -> dict[str, Any]:
  """Returns the steps by name, in the order of the config."""
  return {
    name: CLEANERS[name](config.opts.get(name, CLEANERS.options(name)()))
    for name in config.clean
  }


@dataclasses.dataclass(frozen=True)
class Pass:
  """Filters, then, unless None, one step for duplicates."""

  filters: tuple[Filter, ...]
  dedup: Duplicates | None

  def __call__(self, texts: Sequence[str]) -> pa.Table:
    """Judges a batch; the verdict of the first filter that drops counts."""
    reasons, notes = [""] * len(texts), [""] * len(texts)
    for step in self.filters:
      left = [i for i, reason in enumerate(reasons) if not reason]
      verdicts = step.judge([texts[i] for i in left])
      for i, verdict in zip(left, verdicts, strict=True):
        reasons[i] = verdict.reason
        notes[i] = verdict.note or notes[i]
    signatures: list[bytes | None] = [None] * len(texts)
    if self.dedup:
      left = [i for i, reason in enumerate(reasons) if not reason]
      signed = self.dedup.sign([texts[i] for i in left])
      for i, signature in zip(left, signed, strict=True):
        signatures[i] = signature
    return pa.table(
      {
        "reason": pa.array(reasons, pa.string()),
        "note": pa.array(notes, pa.string()),
        "signature": pa.array(signatures, pa.binary()),
        "excerpt": pa.array([text[:_EXCERPT] for text in texts], pa.string()),
      }
    )


def passes(steps: Sequence[Any]) -> list[Pass]:
  """Groups the steps: each one for duplicates ends a pass."""
  found, filters = [], []
  for step in steps:
    if isinstance(step, Duplicates):
      found.append(Pass(tuple(filters), step))
      filters = []
    else:
      filters.append(step)
  if filters:
    found.append(Pass(tuple(filters), None))
  return found


def _key(config: DataConfig, steps: dict[str, Any], fingerprint: str) -> str:
  parts = [
    (
      name,
      # A plugin's step may change from one day to the next.
      pathlib.Path(str(CLEANERS.module(name).__file__)).read_text("utf-8"),
      repr(config.opts.get(name)),
      getattr(step, "fingerprint", ""),
    )
    for name, step in steps.items()
  ]
  text = json.dumps((FORMAT, fingerprint, parts))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decide(
  steps: dict[str, Any],
  texts: Callable[[str, Sequence[str] | None], Iterator[Text]],
  unfinished: pathlib.Path,
  workers: int,
  folder: pathlib.Path,
) -> None:
  """Runs the passes and writes the decisions and samples into `folder`."""
  reasons: list[str] | None = None  # of all documents, after the first pass
  notes: list[str] = []
  samples: dict[str, list[dict[str, str]]] = {}
  for number, one in enumerate(passes(list(steps.values()))):
    left = texts(f"pass {number + 1}", reasons)
    done = _run(one, left, unfinished / str(number), workers, samples)
    if reasons is None:
      reasons, notes = done
      continue
    places = [i for i, reason in enumerate(reasons) if not reason]
    for i, reason, note in zip(places, *done, strict=True):
      reasons[i], notes[i] = reason, note or notes[i]
  table = pa.table(
    {"reason": pa.array(reasons, pa.string()), "note": pa.array(notes)}
  )
  parquet.write_table(table, folder / "decisions.parquet")
  text = json.dumps(samples, ensure_ascii=False, indent=2)
  (folder / "samples.json").write_text(text, encoding="utf-8")


def _run(
  one: Pass,
  texts: Iterator[Text],
  place: pathlib.Path,
  workers: int,
  samples: dict[str, list[dict[str, str]]],
) -> tuple[list[str], list[str]]:
  """One pass: returns the reasons and notes, and adds to the samples."""
  names: list[str] = []

  def batches() -> Iterator[list[str]]:
    for batch in batched(texts):
      names.extend(text.name for text in batch)
      yield [text.text for text in batch]

  reasons: list[str] = []
  notes: list[str] = []
  signatures: list[bytes] = []  # of those that the filters keep
  for table in work.run(one, batches(), place, workers):
    reasons += table["reason"].to_pylist()
    notes += table["note"].to_pylist()
    signatures += table["signature"].drop_null().to_pylist()
  copies: dict[int, int] = {}
  if one.dedup:
    kept = [i for i, reason in enumerate(reasons) if not reason]
    for i, first in enumerate(duplicates(one.dedup, signatures)):
      if first >= 0:
        reasons[kept[i]] = one.dedup.reason
        copies[kept[i]] = kept[first]
  excerpts = itertools.chain.from_iterable(
    table["excerpt"].to_pylist() for table in work.finished(place)
  )
  for i, (reason, excerpt) in enumerate(zip(reasons, excerpts, strict=True)):
    if reason and len(samples.setdefault(reason, [])) < _SAMPLES:
      sample = {"name": names[i], "text": excerpt}
      if i in copies:
        sample["of"] = names[copies[i]]
      samples[reason].append(sample)
  return reasons, notes
