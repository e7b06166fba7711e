"""CONSTRAINTS: outputs that fit a regular expression, a schema or a grammar.

An entry is a function from the setting of its name to a grammar of llguidance,
which then says before each token which ones keep the output inside. Guided
decoding by such masks: Willard & Louf 2023, arXiv:2307.09702.
"""

import copy
import functools
import re
from typing import Any

import numpy as np

from ...errors import UserError
from ...registry import Registry
from ..settings import Sampling
from ..tokenizer import Tokenizer, spell

CONSTRAINTS = Registry(
  "constraint",
  "constraints",
  __name__,
  {
    "regex": "regex:regex",
    "json_schema": "json_schema:json_schema",
    "grammar": "grammar:grammar",
  },
  word="{name}=X",
)


def _llguidance() -> Any:
  try:
    import llguidance
  except ImportError:
    raise UserError(
      "regex, json_schema and grammar need the package llguidance; run:"
      " pip install 'ablax[constrain]'"
    ) from None
  return llguidance


class Matcher:
  """One output's place in a constraint.

  Args:
    word: the setting, for messages.
    matcher: of llguidance.
    tokenizer: whose tokens it is asked about.
    vocab_size: of the model, whose last ids may be nobody's.
  """

  def __init__(
    self, word: str, matcher: Any, tokenizer: Tokenizer, vocab_size: int
  ):
    self._word = word
    self._matcher = matcher
    self._tokenizer = tokenizer
    self._vocab_size = vocab_size
    self._tokens: list[int] = []

  def allowed(self) -> np.ndarray:
    """Which tokens may come next, as bool [V]; none at a dead end."""
    bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
    fits = np.unpackbits(bits, bitorder="little")[: self._vocab_size]
    allowed_V = np.zeros(self._vocab_size, bool)
    allowed_V[: len(fits)] = fits
    # At a dead end llguidance allows the end of text all the same.
    allowed_V[self._tokenizer.eos_id] = self._matcher.is_accepting()
    return allowed_V

  def dead_end(self) -> UserError:
    """What to raise where no token is allowed."""
    text = spell(self._tokenizer, self._tokens)
    where = (
      f"at token {len(self._tokens) + 1} of the output, after {text[-40:]!r}"
    )
    reason = self._matcher.get_error()
    # It has limits, and allows nothing once it has met one; the name is that
    # of a plain dead end.
    if reason and not reason.startswith("NoExtension"):
      return UserError(
        f"{self._word}: llguidance gives up {where}: {_one_line(reason)};"
        " simplify it"
      )
    return UserError(
      f"{self._word}: no token of the vocabulary fits {where}; widen it,"
      " or use a tokenizer that can spell what comes there"
    )

  def push(self, token: int) -> bool:
    """Takes a token that was allowed; says whether nothing can follow it.

    Raises:
      UserError: the constraint is too much for llguidance.
    """
    if not self._matcher.consume_token(token):
      raise self.dead_end()
    self._tokens.append(token)
    return self._matcher.is_stopped() and self._matcher.is_accepting()

  def fork(self) -> "Matcher":
    new = copy.copy(self)
    new._matcher = self._matcher.deep_copy()
    new._tokens = list(self._tokens)
    return new


def make_matcher(
  sampling: Sampling, tokenizer: Tokenizer, vocab_size: int
) -> Matcher | None:
  """The constraint of `sampling` before the first token; None without one.

  Raises:
    UserError: the constraint is malformed, or llguidance is not installed.
  """
  for word, value in sampling.given_constraints.items():
    llguidance = _llguidance()
    shown = value if isinstance(value, str) else str(value)
    try:
      source = CONSTRAINTS[word](value)
    except UserError:
      raise
    except (TypeError, ValueError, RecursionError) as error:
      raise UserError(
        f"{word}={shown[:60]!r} is not valid: {_one_line(str(error))}"
      ) from None
    # Its log would go to the terminal.
    matcher = llguidance.LLMatcher(_vocabulary(tokenizer), source, log_level=0)
    if matcher.is_error():
      reason = _one_line(matcher.get_error())
      raise UserError(f"{word}={shown[:60]!r} is not valid: {reason}")
    return Matcher(word, matcher, tokenizer, vocab_size)
  return None


@functools.lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer) -> Any:
  llguidance = _llguidance()
  return llguidance.LLTokenizer(
    llguidance.TokenizerWrapper(_Spelling(tokenizer))
  )


class _Spelling:
  """A tokenizer, under the names that llguidance asks for."""

  def __init__(self, tokenizer: Tokenizer):
    self.tokens = [
      tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)
    ]
    self.eos_token_id = tokenizer.eos_id
    self.bos_token_id = tokenizer.bos_id
    self.special_token_ids = [i for i, t in enumerate(self.tokens) if not t]
    self._encode = tokenizer.encode
    self._ids = {t: i for i, t in reversed([*enumerate(self.tokens)]) if t}
    self._longest = max(map(len, self._ids), default=0)

  def __call__(self, data: bytes) -> list[int]:
    """The tokens of text that is forced: those that training would have.

    A tokenizer that loses something spells it greedily, as far as it can.
    """
    try:
      ids = self._encode(data.decode("utf-8"))
      if b"".join(self.tokens[i] for i in ids) == data:
        return ids
    except (ValueError, KeyError):
      pass
    ids = []
    while data:
      for n in range(min(self._longest, len(data)), 0, -1):
        if (token := self._ids.get(data[:n])) is not None:
          break
      else:
        return ids
      ids.append(token)
      data = data[n:]
    return ids


def _one_line(message: str) -> str:
  """What is wrong, of llguidance's message with its drawing of where."""
  wrong = re.findall(r"error: (.+)", message) or message.strip().splitlines()
  return wrong[0][:200]
