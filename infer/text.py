"""From tokens to text: whole characters, stop texts, and why it ended."""

import codecs
import copy
import dataclasses
import math
from typing import Literal

from ..errors import UserError
from .constraints import Matcher
from .tokenizer import Tokenizer, special_tokens

Finish = Literal["stop", "eos", "length", "context", "complete"]


@dataclasses.dataclass(frozen=True)
class Completion:
  """A continuation of one prompt.

  Attributes:
    text: without the prompt and without the stop text.
    tokens: as chosen, the end of text or the stop text included.
    logprobs: of `tokens`, in nats, by the model itself: before temperature
      and filters, as in training.
    finish: what ended it: a stop text, the end-of-text token, `max_tokens`,
      `model.max_len`, or a constraint to which nothing can be added. With a
      constraint, only "length", "context" and "stop" may leave it unfulfilled.
    score: what the decoding ranked it by; 0 where it ranks nothing.
  """

  text: str
  tokens: tuple[int, ...]
  logprobs: tuple[float, ...]
  finish: Finish
  score: float = 0.0


class Stream:
  """Bytes in, whole characters out, and nothing of a stop text."""

  def __init__(self, stop: tuple[str, ...]):
    self.text = ""  # passed on
    self.stopped = False
    self._stop = stop
    self._held = ""  # may turn out to be part of a stop text
    self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

  def push(self, data: bytes, final: bool = False) -> str:
    """Adds bytes; returns the text that can't be part of a stop text."""
    self._held += self._decoder.decode(data, final)
    # The match that ends first, wherever the borders of the tokens are.
    found = [(self._held.find(s), s) for s in self._stop if s in self._held]
    if found:
      n, _ = min(found, key=lambda match: (match[0] + len(match[1]), match[0]))
      self.stopped = True
    elif final:
      n = len(self._held)
    else:
      n = len(self._held) - self._may_become_stop()
    passed, self._held = self._held[:n], self._held[n:]
    self.text += passed
    return passed

  def _may_become_stop(self) -> int:
    """Length of the longest ending that a stop text begins with."""
    longest = max(map(len, self._stop), default=1) - 1
    for n in range(min(longest, len(self._held)), 0, -1):
      if any(s.startswith(self._held[-n:]) for s in self._stop):
        return n
    return 0

  def fork(self) -> "Stream":
    new = copy.copy(self)
    new._decoder = copy.copy(self._decoder)
    return new


def not_finite(n: int) -> UserError:
  """What to raise where the logits after `n` tokens are no numbers."""
  return UserError(
    f"the model's logits for token {n + 1} of the output are not finite: its"
    " weights have diverged; load an earlier step, or train with a lower"
    " opt.lr"
  )


class Growing:
  """One completion as it grows.

  Args:
    tokenizer: gives the bytes of a token.
    stop: texts, and names of control tokens.
    limit: number of tokens that it may have.
    at_limit: why there are no more.
    matcher: of its own, where there is a constraint.
  """

  def __init__(
    self,
    tokenizer: Tokenizer,
    stop: tuple[str, ...],
    limit: int,
    at_limit: Finish,
    matcher: Matcher | None = None,
  ):
    control = special_tokens(tokenizer)
    self.tokens: list[int] = []
    self.logprobs: list[float] = []
    self.finish: Finish | None = None
    self.matcher = matcher
    self.limit = limit
    self._at_limit: Finish = at_limit
    self._tokenizer = tokenizer
    self._stop_ids = {control[s] for s in stop if s in control}
    self._stream = Stream(stop)

  def push(self, token: int, logprob: float) -> str:
    """Adds a token; returns the new text that is certain.

    Raises:
      UserError: the log-probability is no number.
    """
    if math.isnan(logprob):
      raise not_finite(len(self.tokens))
    self.tokens.append(token)
    self.logprobs.append(logprob)
    text = self._stream.push(self._tokenizer.token_bytes(token))
    if self._stream.stopped:
      self.finish = "stop"
      return text
    if token == self._tokenizer.eos_id:
      self.finish = "eos"
    elif token in self._stop_ids:
      self.finish = "stop"
    elif self.matcher and self.matcher.push(token):
      self.finish = "complete"
    elif len(self.tokens) == self.limit:
      self.finish = self._at_limit
    return text + self._stream.push(b"", final=True) if self.finish else text

  def fork(self) -> "Growing":
    """A copy that grows by itself."""
    new = copy.copy(self)
    new.tokens, new.logprobs = list(self.tokens), list(self.logprobs)
    new._stream = self._stream.fork()
    new.matcher = self.matcher and self.matcher.fork()
    return new

  def completion(self, score: float = 0.0) -> Completion:
    assert self.finish
    return Completion(
      self._stream.text,
      tuple(self.tokens),
      tuple(self.logprobs),
      self.finish,
      score,
    )
