"""Document sources: where text comes from."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from ...registry import Registry


class Document(NamedTuple):
  """One text and its name, which messages and proofs show."""

  name: str
  text: str


@runtime_checkable
class Source(Protocol):
  """Gives the same documents in the same order wherever the files are equal.

  The order is that of the relative posix names, never that of the disk, or the
  one that a prepared data set has. Every call reads anew.

  Attributes:
    argument: the field of the entry's `Options` that data.source="NAME:VALUE"
      sets; "" where there is none.
  """

  argument: ClassVar[str]

  def __init__(self, options: Any): ...

  def documents(self) -> Iterator[Document]: ...


SOURCES = Registry(
  "source",
  "data.source",
  __name__,
  {
    "stdlib": "stdlib:Stdlib",
    "text": "text:Text",
    "tfds": "tfds:TFDS",
    "hf": "hf:HF",
  },
)
