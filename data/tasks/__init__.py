"""TASKS: synthetic rows that tell architectures apart, in place of text.

A task makes one row of T symbols at a time from a random generator, with
weight 1 only where an answer is asked. Row i is a function of the task, its
options, the side and i alone (`stream.py`), so that the rows are the same for
any number of hosts, any batch size and after a restart.

A new task is one file here and one line below: a class of `Task` and its
`Options`.
"""

import dataclasses
import hashlib
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from ...errors import UserError
from ...registry import Registry

NOTHING = 0  # the id that is no symbol: padding
# Of the rows that can be drawn, the share that is kept for evaluation.
HELDOUT_SHARE = 8
_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class TaskOptions:
  """The options of every task.

  Attributes:
    heldout_rows: rows of an evaluation; they are the same for every seed.
    train_rows: different rows in training, seen in a new order each epoch; 0:
      every row is a new one.
    eval_lengths: more lengths than data.seq_len to evaluate at; 0: none.
  """

  heldout_rows: int = 512
  train_rows: int = 0
  eval_lengths: tuple[int, ...] = (0,)

  def __post_init__(self):
    at_least(self, heldout_rows=1, train_rows=0)
    for length in self.eval_lengths:
      if length < 0:
        raise UserError(
          f"eval_lengths={self.eval_lengths} holds {length}; lengths are"
          " positive, and (0,) is for none"
        )

  @property
  def lengths(self) -> tuple[int, ...]:
    """The lengths of `eval_lengths`, each once, rising."""
    return tuple(sorted({length for length in self.eval_lengths if length}))

  @property
  def facts(self) -> dict[str, Any]:
    """The options that rows are made by: those that not every task has."""
    common = {field.name for field in dataclasses.fields(TaskOptions)}
    everything = dataclasses.asdict(self)
    return {k: v for k, v in everything.items() if k not in common}


class Row(NamedTuple):
  """One example.

  Attributes:
    tokens: what is read.
    targets: the answer where one is asked, else `NOTHING`.
    weights: 1 where an answer is asked.
    segment_ids: 1 and more; parts of different ids do not see each other, and
      0 is padding.
  """

  tokens: Int32[np.ndarray, " T"]
  targets: Int32[np.ndarray, " T"]
  weights: Float32[np.ndarray, " T"]
  segment_ids: Int32[np.ndarray, " T"]


class Task:
  """A task at one length.

  Args:
    options: of the entry.
    seq_len: T.

  Attributes:
    vocab_size: number of ids, `NOTHING` included; the same or less at a
      shorter length.
    splits: False where no hash need keep the two sides apart.

  Raises:
    UserError: the options leave no room in T.
  """

  vocab_size: int
  splits: ClassVar[bool] = True

  def __init__(self, options: Any, seq_len: int):
    self.options = options
    self.seq_len = seq_len

  def draw(self, rng: np.random.Generator) -> Row:
    """Returns any row."""
    raise NotImplementedError

  def draw_heldout(self, rng: np.random.Generator) -> Row:
    """As `draw`, for evaluation."""
    return self.draw(rng)

  def example(self, rng: np.random.Generator, heldout: bool) -> Row:
    """Returns a row of one side: a hash of what is read says which.

    Raises:
      UserError: there are too few different rows for two sides.
    """
    draw = self.draw_heldout if heldout else self.draw
    for _ in range(_DRAWS):
      row = draw(rng)
      if not self.splits or is_heldout(row.tokens) == heldout:
        return row
    raise UserError(
      f"data.seq_len={self.seq_len} gives this task too few different rows to"
      " keep some for evaluation; use longer rows or more symbols"
    )


def is_heldout(symbols: Int32[np.ndarray, " n"]) -> bool:
  digest = hashlib.blake2b(symbols.tobytes(), digest_size=8).digest()
  return int.from_bytes(digest, "little") % HELDOUT_SHARE == 0


def next_symbol_row(
  symbols: Integer[np.ndarray, " n"],
  asked: Bool[np.ndarray, " n"],
  seq_len: int,
) -> Row:
  """A row in which each slot predicts the next symbol, where that is asked.

  Args:
    symbols: up to T + 1 of them; fewer are filled up with padding.
    asked: whether a symbol is an answer; the first can be none.
  """
  n = min(len(symbols), seq_len)
  tokens, targets, segment_ids = np.zeros((3, seq_len), np.int32)
  weights = np.zeros(seq_len, np.float32)
  tokens[:n] = symbols[:n]
  segment_ids[:n] = 1
  answers = asked[1:]
  weights[: len(answers)] = answers
  targets[: len(answers)] = symbols[1:] * answers
  return Row(tokens, targets, weights, segment_ids)


def at_least(options: Any, **least: int) -> None:
  """Raises UserError where an option is under its least value."""
  for name, value in least.items():
    if getattr(options, name) < value:
      raise UserError(
        f"{name}={getattr(options, name)} must be at least {value}"
      )


def need(seq_len: int, least: int, why: str) -> None:
  """Raises UserError where rows are too short."""
  if seq_len < least:
    raise UserError(
      f"data.seq_len={seq_len} is too short for {why}; use {least} or more"
    )


TASKS = Registry(
  "task",
  "data.task",
  __name__,
  {
    "mqar": "mqar:MQAR",
    "in_context_recall": "in_context_recall:InContextRecall",
    "fuzzy_recall": "fuzzy_recall:FuzzyRecall",
    "noisy_recall": "noisy_recall:NoisyRecall",
    "selective_copying": "selective_copying:SelectiveCopying",
    "compression": "compression:Compression",
    "memorization": "memorization:Memorization",
    "induction_heads": "induction_heads:InductionHeads",
    "dyck": "dyck:Dyck",
    "parity": "parity:Parity",
    "modular_addition": "modular_addition:ModularAddition",
    "needle": "needle:Needle",
    "passkey": "passkey:PassKey",
  },
)
