"""Cleaning steps in passes over a corpus, and what they decide.

A pass reads what is left of the corpus: its filters judge each document, and
at its end, where it has one, a step for duplicates compares what they kept.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from .cleaning import Duplicates, Filter

_EXCERPT = 200  # characters of a sample
SAMPLES = 5  # of what a reason drops
EMPTY = "empty"  # the reason of a document without text


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


@dataclasses.dataclass
class Decisions:
  """What the steps say of each document, in the order of the corpus.

  Attributes:
    reasons: why it is dropped; "" keeps it.
    notes: what the steps noted of it, such as a language, or "".
    samples: reason -> of the first few that it drops the number in the corpus,
      the beginning of the text and, where it is a duplicate, the number `of`
      the first. Not their names: equal texts may be named otherwise tomorrow.
  """

  reasons: list[str]
  notes: list[str]
  samples: dict[str, list[dict[str, Any]]] = dataclasses.field(
    default_factory=dict
  )

  @classmethod
  def before(cls, sizes: Iterable[int]) -> "Decisions":
    """Returns those that are there before any step: no text, no document."""
    decisions = cls(["" if size else EMPTY for size in sizes], [])
    decisions.notes = [""] * len(decisions.reasons)
    for i, reason in enumerate(decisions.reasons):
      decisions.sample(reason, i, "")
    return decisions

  def left(self) -> list[int]:
    """Returns the numbers of the documents that nothing has dropped yet."""
    return [i for i, reason in enumerate(self.reasons) if not reason]

  def sample(
    self, reason: str, document: int, text: str, of: int | None = None
  ) -> None:
    """Keeps a dropped document, if it is among the first few of its reason."""
    if reason and len(self.samples.setdefault(reason, [])) < SAMPLES:
      sample: dict[str, Any] = {"document": document, "text": text}
      self.samples[reason].append(sample | ({} if of is None else {"of": of}))

  def save(self, folder: pathlib.Path) -> None:
    columns = {"reason": self.reasons, "note": self.notes}
    table = pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()})
    parquet.write_table(table, folder / "decisions.parquet")
    text = json.dumps(
      self.samples, ensure_ascii=False, indent=2, sort_keys=True
    )
    (folder / "samples.json").write_text(text, encoding="utf-8")

  @classmethod
  def load(cls, folder: pathlib.Path) -> "Decisions":
    table = parquet.read_table(folder / "decisions.parquet")
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    return cls(table["reason"].to_pylist(), table["note"].to_pylist(), samples)
