"""The data namespace of the config, checked."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

from ..errors import UserError, nearest
from ..registry import Opts
from .sources import SOURCES
from .tasks import TASKS, Task

BALANCES = ("shares", "epochs")


@dataclasses.dataclass(frozen=True)
class Part:
  """One source of the mixture.

  Attributes:
    name: as the config has it, its own options behind it: "stdlib",
      "tfds:three_kingdoms", "hf:notes(split=test)".
    word: the source's registered name.
    options: of the source: those of `data.opts`, what stands behind the
      colon, its own.
    weight: not negative; what it means is in `data.balance`.
    epochs: how often its rows may be seen at most; 0: any number of times.
  """

  name: str
  word: str
  options: Any
  weight: float
  epochs: float


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read and in which order; units and meaning in configs/base.py."""

  mixture: tuple[
    tuple[str, float, float] | tuple[str, float, float, Mapping[str, Any]],
    ...,
  ]
  balance: str
  temperature: float
  clean: tuple[str, ...]
  tokenizer: str
  vocab_size: int
  tokenizer_bytes: int
  max_bytes: int
  heldout_bytes: int
  seq_len: int
  batch_size: int
  seed: int
  prefetch: int
  opts: Opts
  task: str = ""
  eval_lengths: tuple[int, ...] = (0,)

  def __post_init__(self):
    for key in ("seq_len", "batch_size", "vocab_size", "heldout_bytes"):
      if getattr(self, key) < 1:
        raise UserError(f"data.{key}={getattr(self, key)} must be at least 1")
    for key in ("max_bytes", "prefetch", "tokenizer_bytes", "seed"):
      if getattr(self, key) < 0:
        raise UserError(
          f"data.{key}={getattr(self, key)} must be 0 or positive"
        )
    for length in self.eval_lengths:
      if length < 0:
        raise UserError(
          f"data.eval_lengths={self.eval_lengths} holds {length}; lengths are"
          " positive, and 0 stands for none"
        )
    if self.balance not in BALANCES:
      raise UserError(
        f"data.balance={self.balance!r} is not one of {', '.join(BALANCES)}"
        f"{nearest(self.balance, BALANCES)}"
      )
    # Below, shares vanish in the rounding.
    if not 0.1 <= self.temperature < math.inf:
      raise UserError(
        f"data.temperature={self.temperature} must be at least 0.1; 1 takes the"
        " weights as they are, more evens them out"
      )
    names = [_name(name, *own) for name, _, _, *own in self.mixture]
    for name, (_, weight, epochs, *_) in zip(names, self.mixture, strict=True):
      if not (0 <= weight < math.inf and 0 <= epochs < math.inf):
        raise UserError(
          f"data.mixture: {name!r} has weight {weight} and epochs {epochs};"
          " neither may be negative (weight 0 leaves it out, epochs 0 allows"
          " any number)"
        )
      if names.count(name) > 1:
        raise UserError(
          f"data.mixture names {name!r} twice; add up the two weights"
        )
    if not any(weight for _, weight, *_ in self.mixture):
      raise UserError("data.mixture gives no source a weight above 0")
    self.parts  # noqa: B018  what it refuses is refused here
    if self.task:
      self._check_task()

  @property
  def lengths(self) -> tuple[int, ...]:
    """Those of `eval_lengths`, but for training's own."""
    return tuple(sorted({*self.eval_lengths} - {0, self.seq_len}))

  @property
  def task_options(self) -> Any:
    """The options of `task`, those of every task among them."""
    return self.opts.get(self.task, TASKS.options(self.task)())

  def make_task(self, seq_len: int = 0) -> Task:
    """Returns the task at a length, by default at `seq_len`."""
    return TASKS[self.task](self.task_options, seq_len or self.seq_len)

  def check_context(self, max_len: int) -> None:
    """Raises UserError where rows are longer than the model's context."""
    lengths = {
      "data.seq_len": self.seq_len,
      "data.eval_lengths": max(self.lengths, default=0),
    }
    if self.task:
      key = f"data.opts.{self.task}.eval_lengths"
      lengths[key] = max(self.task_options.lengths, default=0)
    for key, length in lengths.items():
      if max_len < length:
        raise UserError(
          f"{key}={length} is longer than the context model.max_len={max_len};"
          " raise model.max_len"
        )

  def _check_task(self) -> None:
    """Refuses lengths at which the task can't be."""
    n_symbols = self.make_task().vocab_size
    for length in self.task_options.lengths:
      key = f"data.opts.{self.task}.eval_lengths={length}"
      try:
        task = self.make_task(length)
      except UserError as error:
        raise UserError(f"{key}: {error}") from None
      if task.vocab_size > n_symbols:
        raise UserError(
          f"{key} has {task.vocab_size} symbols, more than the {n_symbols} at"
          f" data.seq_len={self.seq_len}; evaluate at shorter lengths"
        )

  @functools.cached_property
  def parts(self) -> tuple[Part, ...]:
    """The sources with a weight above 0, in the order of the config."""
    parts = []
    for name, weight, epochs, *own in self.mixture:
      if weight:
        word, colon, argument = name.partition(":")
        options = self.opts.get(word, SOURCES.options(word)())
        if own:
          options = dataclasses.replace(options, **own[0])
        if colon:
          options = _with_argument(word, options, argument)
        name = _name(name, *own)
        parts.append(Part(name, word, options, weight, epochs))
    return tuple(parts)


# Keys that say nothing where the rows are a task's.
_OF_TEXT = (
  *("mixture", "balance", "temperature", "clean", "tokenizer", "vocab_size"),
  *("tokenizer_bytes", "max_bytes", "heldout_bytes", "eval_lengths"),
)


def refuse_text(given: Mapping[str, Any], default: Mapping[str, Any]) -> None:
  """Raises UserError where a config has a task and sets a key of text.

  Args:
    given, default: the data namespace as it is and as in configs/base.py.
  """
  for key in _OF_TEXT:
    if given[key] != default[key]:
      raise UserError(
        f"data.{key}={given[key]!r} is of text, and data.task="
        f"{given['task']!r} makes its own rows; leave it as it is in"
        " configs/base.py, or set data.task=''"
      )


def _name(name: str, own: Mapping[str, Any] | None = None) -> str:
  """Returns a part's name, which tells it from one of the same source."""
  if not own:
    return name
  said = ",".join(f"{option}={value}" for option, value in sorted(own.items()))
  return f"{name}({said})"


def source_word(name: str) -> str:
  """Returns the registered name in a source's name, "tfds" in "tfds:x"."""
  return name.partition(":")[0]


def _with_argument(word: str, options: Any, argument: str) -> Any:
  """The options with what stands behind the colon of a source's name."""
  field = SOURCES[word].argument
  if not field:
    raise UserError(
      f"data.source={word}:{argument} has more than {word}; it takes nothing"
      f" behind a colon: write {word}"
    )
  if not argument:
    raise UserError(
      f"data.source={word}: has nothing behind the colon; name what"
      f" data.opts.{word}.{field} takes, or drop the colon"
    )
  default = getattr(type(options)(), field)
  if getattr(options, field) != default:
    raise UserError(
      f"data.source={word}:{argument} and its option {field}="
      f"{getattr(options, field)!r} (data.opts.{word}.{field}, or the part's"
      " own) are both set; keep one"
    )
  # As on the command line: a,b is short for ("a", "b").
  value = tuple(argument.split(",")) if default == () else argument
  return dataclasses.replace(options, **{field: value})
