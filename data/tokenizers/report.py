"""What was measured of several tokenizers, as two tables."""

import dataclasses
from collections.abc import Sequence

from .measure import HARD, Measured
from .udhr import WITHOUT_SPACES


@dataclasses.dataclass(frozen=True)
class Row:
  """One tokenizer.

  Attributes:
    train_seconds: None where it was in the cache, or had nothing to learn.
    loses: what decoding cannot give back; "" for nothing.
  """

  name: str
  vocab_size: int
  special_tokens: dict[str, int]
  fingerprint: str
  train_seconds: float | None
  loses: str
  measured: Measured


def report(rows: Sequence[Row], heldout_bytes: int, train_bytes: int) -> None:
  """Prints the tables, and below them what is lost."""
  from rich import box
  from rich.console import Console
  from rich.table import Table

  console = Console(highlight=False)
  table = Table(
    title=f"on {heldout_bytes:,} held-out bytes, {train_bytes:,} bytes for"
    " training",
    box=box.SIMPLE,
  )
  table.add_column("tokenizer", overflow="fold")
  columns = ("vocab", "train s", "bytes/token", "MB/s")
  for column in columns:
    table.add_column(column, justify="right")
  table.add_column("held-out")
  table.add_column("hard texts")
  for row in rows:
    m = row.measured
    seconds = row.train_seconds
    table.add_row(
      row.name,
      str(row.vocab_size),
      "-" if seconds is None else f"{seconds:.1f}",
      f"{m.bytes_per_token:.3f}",
      f"{m.bytes_per_second / 1e6:.1f}",
      _changed(m.n_changed, m.n_texts),
      _changed(len(m.hard_changed), len(HARD)),
    )
  console.print(table)
  for row in rows:
    if row.loses:
      console.print(f"{row.name} loses: {row.loses}", markup=False)
    if names := ", ".join(row.measured.hard_changed):
      console.print(f"{row.name} changes: {names}", markup=False)

  table = Table(
    title="tokens per word (* per character) of Article 1 of the Universal"
    " Declaration of Human Rights",
    box=box.SIMPLE,
  )
  table.add_column("language")
  for row in rows:
    table.add_column(row.name, justify="right", overflow="fold")
  for language in rows[0].measured.fertility:
    table.add_row(
      language + "*" * (language in WITHOUT_SPACES),
      *(f"{row.measured.fertility[language]:.2f}" for row in rows),
    )
  console.print(table)


def _changed(n: int, of: int) -> str:
  return f"changes {n} of {of}" if n else "exact"
