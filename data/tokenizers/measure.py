"""How good a tokenizer is: compression, fertility, round trips, speed.

Fertility is the number of tokens per word (Rust et al. 2021, arXiv:2012.15613).
"""

import dataclasses
import time
from collections.abc import Iterable

from . import Tokenizer
from .udhr import ARTICLE_1, WITHOUT_SPACES

# What tokenizers are known to change: each text must come back as it was.
HARD = {
  "chinese": "滾滾長江東逝水，浪花淘盡英雄。",
  "code": "def f(x):\n    if x:\n\t\treturn  x  # 0x1F\n\n\n",
  "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
  "combining marks": "\u0301e\u0301\u0323 \u1e69 s\u0323\u0307 s\u0307\u0323",
  "line ends": "\r\na\r\n\r\nb\rc\n\x0b\x0c\x85\u2028\u2029",
  "spaces": "  two before, three after   \u00a0\u3000\u200b",
  "sentencepiece's marks": "\u2581a \u2581\u2581b\u2585\u2047 c\u2581",
  "wordpiece's marks": "## a ##b [UNK] [CLS]c \u2060d \u2060",
  "NUL": "\0a\0\0b",
  "control look-alikes": "<s></s><unk><pad><0x0A><|endoftext|>",
  "edges of Unicode": "\ufeff\ufffd\uffff\ue000\U0010ffff",
}

_SECONDS = 0.2  # that encoding is timed for, at least


@dataclasses.dataclass(frozen=True)
class Measured:
  """What a tokenizer does to texts.

  Attributes:
    bytes_per_token: UTF-8 bytes of the texts by their tokens.
    bytes_per_second: encoded, by `encode_batch` on all texts at once.
    n_texts, n_changed: how many there were, and how many came back changed.
    hard_changed: names of the hard texts that came back changed.
    fertility: language -> tokens per word of Article 1 of the Universal
      Declaration of Human Rights: words are what stands between spaces; per
      character where the language has none (`udhr.WITHOUT_SPACES`).
  """

  bytes_per_token: float
  bytes_per_second: float
  n_texts: int
  n_changed: int
  hard_changed: tuple[str, ...]
  fertility: dict[str, float]


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> Measured:
  """Measures on texts that the tokenizer was not trained on."""
  texts = list(texts)
  batch = tokenizer.encode_batch(texts)
  n_bytes = sum(len(text.encode()) for text in texts)
  n_rounds, start = 0, time.perf_counter()
  while (seconds := time.perf_counter() - start) < _SECONDS:
    tokenizer.encode_batch(texts)
    n_rounds += 1
  return Measured(
    bytes_per_token=n_bytes / sum(map(len, batch)),
    bytes_per_second=n_rounds * n_bytes / seconds,
    n_texts=len(texts),
    n_changed=sum(
      tokenizer.decode(ids) != text
      for text, ids in zip(texts, batch, strict=True)
    ),
    hard_changed=tuple(
      name
      for name, text in HARD.items()
      if tokenizer.decode(tokenizer.encode(text)) != text
    ),
    fertility=fertility(tokenizer),
  )


def fertility(tokenizer: Tokenizer) -> dict[str, float]:
  """Returns tokens per word, or per character, of each language."""
  found = {}
  for language, text in ARTICLE_1.items():
    n = len(text) if language in WITHOUT_SPACES else len(text.split())
    found[language] = len(tokenizer.encode(text)) / n
  return found
