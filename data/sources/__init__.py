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
    argument: the option that stands behind the colon of `data.source`, as in
      "text:notes/"; "" where nothing may.
  """

  argument: ClassVar[str]

  def __init__(self, options: Any): ...

  def documents(self) -> Iterator[Document]: ...

  def n_pieces(self) -> int:
    """Returns how many runs of documents can be read apart."""
    return 1

  def piece(self, i: int) -> Iterator[Document]:
    """Yields the i-th of these runs; all in turn are the documents."""
    assert i == 0
    return self.documents()


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
