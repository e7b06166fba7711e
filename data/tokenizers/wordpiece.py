"""WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019, arXiv:1810.04805).

A word is its longest piece, then the longest that goes on from there. The
words are those of byte-level BPE instead of BERT's, so that case, accents,
spaces and rare characters come back; a BERT vocabulary itself is read by
`tokenizer_json`. The vocabulary is learned as `tokenizers` learns it, by
merging the most frequent pair, not by the likelihood of the first paper.
"""

import functools
from collections.abc import Callable
from typing import Any

from .byte_level import ByteLevel, Options

__all__ = ["Options", "WordPiece"]

# Bytes; the search is quadratic in a word's length. Longer words are cut.
_LONGEST = 64


class WordPiece(ByteLevel):
  """The longest piece first, from the left."""

  # No byte is written so. BERT's "##" would make a heading of Markdown the
  # inside of a word.
  continuation = "\u2060"

  @classmethod
  def _model_and_trainer(cls) -> tuple[Any, Callable[..., Any]]:
    from tokenizers import models, trainers

    model = models.WordPiece(
      continuing_subword_prefix=cls.continuation,
      max_input_chars_per_word=_LONGEST,
    )
    return model, functools.partial(
      trainers.WordPieceTrainer, continuing_subword_prefix=cls.continuation
    )

  @classmethod
  def _cutting(cls, options: Options) -> list[Any]:
    from tokenizers import Regex, pre_tokenizers

    cut = pre_tokenizers.Split(Regex(f".{{{_LONGEST}}}"), "isolated")
    return [*super()._cutting(options), cut]
