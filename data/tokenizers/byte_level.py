"""Vocabularies over bytes, trained by `tokenizers` (Radford et al. 2019).

The shared part of `byte_bpe` and `wordpiece`. A text is cut into words by a
regular expression, and a word is a string of bytes, each written as one
character; with all 256 in the vocabulary, nothing is unknown.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from ...errors import UserError
from .hugging_face import Ends, HuggingFace, with_controls
from .pieces import (
  BOS,
  EOS,
  PAD,
  SpecialTokens,
  missing,
  no_room,
  no_text,
  too_large,
)
from .spelling import byte_characters

# Of GPT-2, and of GPT-4 as tiktoken's cl100k_base has it: letters with what
# stands before them, digits by threes, line ends with what they end.
PATTERNS = {
  "gpt2": (
    r"'s|'t|'re|'ve|'m|'ll|'d"
    r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
  ),
  "gpt4": (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
  ),
}


@dataclasses.dataclass(frozen=True)
class Options(SpecialTokens):
  """What the training can vary.

  pattern: the words that no piece goes beyond: gpt2, gpt4, or a regular
    expression of one's own (Oniguruma's syntax); what it leaves out are words,
    too.
  split_digits: every digit is a piece of its own.
  """

  pattern: str = "gpt2"
  split_digits: bool = False

  def __post_init__(self):
    super().__post_init__()
    import tokenizers

    if not self.pattern:
      raise UserError(
        f"pattern is empty; choose one of {', '.join(PATTERNS)}, or give a"
        " regular expression"
      )
    try:
      tokenizers.Regex(self.regex)
    except Exception as error:  # the library raises no narrower one
      raise UserError(
        f"pattern={self.pattern!r} is neither one of {', '.join(PATTERNS)} nor"
        f" a regular expression: {error}"
      ) from None

  @property
  def regex(self) -> str:
    return PATTERNS.get(self.pattern, self.pattern)


class ByteLevel(HuggingFace):
  """256 bytes, then what was learned, then the special tokens."""

  # The mark of pieces that stand inside of a word, where the model has one.
  continuation: ClassVar[str] = ""

  @classmethod
  def _model_and_trainer(cls) -> tuple[Any, Callable[..., Any]]:
    raise NotImplementedError

  @classmethod
  def train(
    cls, texts: Iterable[str], vocab_size: int, options: Options
  ) -> "ByteLevel":
    """Trains on `texts`; equal texts, equal vocabulary.

    Raises:
      UserError: the texts are empty, or have too few or too many pieces for
        `vocab_size`.
    """
    import tokenizers
    from tokenizers import decoders, pre_tokenizers

    ends = Ends(PAD, BOS, EOS)
    named = missing(options.special_tokens, ends)
    room = vocab_size - len(ends) - len(named)
    marks = ["", cls.continuation] if cls.continuation else [""]
    base = [mark + char for mark in marks for char in byte_characters()]
    if room < len(base):
      raise no_room(vocab_size, vocab_size - room + len(base))

    model, trainer = cls._model_and_trainer()
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cls._cutting(options))
    spelling: list[Any] = [decoders.ByteLevel()]
    if cls.continuation:
      spelling.insert(0, decoders.Replace(cls.continuation, ""))
    tokenizer.decoder = decoders.Sequence(spelling)
    n_texts = 0

    def counted() -> Iterator[str]:
      nonlocal n_texts
      for text in texts:
        n_texts += bool(text)
        yield text

    tokenizer.train_from_iterator(
      counted(),
      trainer(
        vocab_size=room,
        min_frequency=2,
        # The library numbers these first, in this order. Pieces with a mark
        # that it finds by itself are numbered as its hash table has them,
        # another way each time, and ties go by number.
        special_tokens=base,
        show_progress=False,
      ),
    )
    if not n_texts:
      raise no_text()
    learned = tokenizer.get_vocab_size()
    if learned < room:
      raise too_large(vocab_size, vocab_size - room + learned)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []  # the bytes are pieces like others
    text = json.dumps(state, ensure_ascii=False)
    return cls(with_controls(text, [*ends, *named]), ends)

  @classmethod
  def _cutting(cls, options: Options) -> list[Any]:
    """Returns the steps from a text to words of byte characters."""
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = [pre_tokenizers.Split(Regex(options.regex), "isolated")]
    if options.split_digits:
      steps.append(pre_tokenizers.Digits(individual_digits=True))
    return [
      *steps,
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
