"""Cleaning steps: which documents are dropped, and why.

A step is a pure function of texts: the same verdicts in any order of calls, any
split into batches and any number of processes. It is cheap to make, pickles
with what it has read, and loads heavy things when it first needs them. Besides
its contract a step may have

  facts() -> dict[str, Any]: what a report should say of the step itself, such
    as the accuracy of a classifier. What is slow to make, a step makes here, so
    call it before the step goes to other processes.
  fingerprint: str, a hash of what else decides what it says, the files that it
    reads or the model of a package: part of the key of any cache, as its
    options are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ...registry import Registry


class Verdict(NamedTuple):
  """What a filter says of one document.

  reason: why it is dropped, a short fixed name such as "gopher: few words";
    "" keeps it.
  note: what the report groups by, such as a language tag; or "".
  """

  reason: str = ""
  note: str = ""


@runtime_checkable
class Filter(Protocol):
  """Judges each document by itself."""

  def __init__(self, options: Any): ...

  def judge(self, texts: Sequence[str]) -> list[Verdict]: ...


@runtime_checkable
class Duplicates(Protocol):
  """Finds documents that repeat an earlier one; the rule is `duplicates`.

  Attributes:
    reason: of what it drops ("near duplicate").
  """

  reason: str

  def __init__(self, options: Any): ...

  def sign(self, texts: Sequence[str]) -> list[bytes]:
    """Returns a small signature of each text."""
    ...

  def keys(self, signature: bytes) -> list[bytes]:
    """Returns its buckets; documents that share one are candidates."""
    ...

  def same(self, first: bytes, later: bytes) -> bool:
    """Whether the document signed `later` is a duplicate of the other."""
    ...


def duplicates(step: Duplicates, signatures: Sequence[bytes]) -> list[int]:
  """Returns for each document the first one it duplicates, or -1: keep it.

  A document is dropped if it is the `same` as the first document, in corpus
  order, of one of its buckets, whether or not that one is dropped itself. So
  each bucket is decided alone, by one comparison a document: the work is linear
  and its result is that of any MapReduce over the buckets.
  """
  firsts: dict[bytes, int] = {}
  found = []
  for i, signature in enumerate(signatures):
    rivals = {firsts.setdefault(key, i) for key in step.keys(signature)} - {i}
    found.append(
      min(
        (j for j in rivals if step.same(signatures[j], signature)), default=-1
      )
    )
  return found


CLEANERS = Registry(
  "cleaning step",
  "data.clean",
  __name__,
  {
    "exact": "exact:Exact",
    "minhash": "minhash:MinHash",
    "gopher": "gopher:Gopher",
    "c4": "c4:C4",
    "fineweb": "fineweb:FineWeb",
    "toxicity": "toxicity:Toxicity",
    "classifier": "classifier:Classifier",
    "language": "language:Language",
  },
)
