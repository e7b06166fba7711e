"""What generation is asked for: every setting, its range, its neutral value.

Without JAX, so that a command can show its help at once.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError

Number = float | int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """How to choose tokens, and when to stop.

  The names are those of transformers, vLLM and OpenAI. A filter at its default
  does nothing and costs nothing; the others are applied in the order in which
  they stand in `infer/filters`, which is that of transformers.

  Attributes:
    temperature: divides the logits: below 1 likelier tokens, above 1 more
      variety; 0: always the likeliest token.
    top_k: choose among the K likeliest tokens; 0: all.
    top_p: choose among the likeliest tokens of total probability P, in (0, 1].
    min_p: drop tokens less than P times as likely as the likeliest, in [0, 1].
    typical_p: choose among the tokens whose surprise is nearest to the
      entropy, of total probability P, in (0, 1].
    epsilon_cutoff: drop tokens less likely than X, in [0, 1).
    eta_cutoff: the same with a cutoff that falls as the entropy rises, in
      [0, 1).
    logit_bias: token id -> what is added to its logit.
    repetition_penalty: divides the positive logits of tokens in prompt or
      output, multiplies the negative ones; above 1 discourages, positive.
    frequency_penalty: subtracted for each time a token is in the output; in
      [-2, 2].
    presence_penalty: subtracted once for a token in the output; in [-2, 2].
    guidance_scale: weight of the prompt against `negative_prompt`: logits are
      extrapolated from the one by this much towards the other; 1: off.
    negative_prompt: what to steer away from; empty: no prompt at all.
    filters: filters that a plugin registered, word -> value; applied last.
    regex: the output matches this regular expression as a whole.
    json_schema: the output is JSON that this schema accepts; a schema's text
      or the schema itself.
    grammar: the output is a sentence of this Lark grammar.
    max_tokens: generated for each prompt, at most.
    stop: texts that end a completion and are not part of it, wherever the
      borders of the tokens are; the name of a special token ends it too.
    n: completions of each prompt.
    seed: the same seed gives the same text, in [0, 2^32).
  """

  temperature: Number = 1.0
  top_k: int = 0
  top_p: Number = 1.0
  min_p: Number = 0.0
  typical_p: Number = 1.0
  epsilon_cutoff: Number = 0.0
  eta_cutoff: Number = 0.0
  logit_bias: Mapping[int, Number] = dataclasses.field(default_factory=dict)
  repetition_penalty: Number = 1.0
  frequency_penalty: Number = 0.0
  presence_penalty: Number = 0.0
  guidance_scale: Number = 1.0
  negative_prompt: str = ""
  filters: Mapping[str, Number] = dataclasses.field(default_factory=dict)
  regex: str | None = None
  json_schema: str | Mapping[str, Any] | None = None
  grammar: str | None = None
  max_tokens: int = 100
  stop: tuple[str, ...] = ()
  n: int = 1
  seed: int = 0

  def __post_init__(self):
    for name, (rule, holds) in _RULES.items():
      if not holds(getattr(self, name)):
        raise UserError(f"{name}={getattr(self, name)} must be {rule}")
    for token, bias in self.logit_bias.items():
      if not math.isfinite(bias):
        raise UserError(
          f"logit_bias={{{token}: {bias}}} must be finite; -100 forbids a token"
        )
    if isinstance(self.stop, str):
      raise UserError(
        f"stop={self.stop!r} must be a tuple of texts; use ({self.stop!r},)"
      )
    if "" in self.stop:
      raise UserError(f"stop={self.stop!r} holds an empty text; drop it")
    given = self.given_constraints
    for word, value in given.items():
      if isinstance(value, str) and not value.strip():
        raise UserError(
          f"{word}={value!r} is empty; write what the output must be, or drop"
          f" {word}"
        )
    if len(given) > 1:
      raise UserError(
        f"{' and '.join(given)} are two constraints; keep one, or write one"
        " grammar that is both"
      )
    if self.negative_prompt and self.guidance_scale == 1:
      raise UserError(
        f"negative_prompt={self.negative_prompt[:20]!r} has no effect at"
        " guidance_scale=1; raise it, to 1.5 for instance"
      )

  @property
  def given_constraints(self) -> dict[str, Any]:
    """The constraints that are set, word -> value."""
    words = ("regex", "json_schema", "grammar")
    own = {word: getattr(self, word) for word in words}
    return {k: v for k, v in own.items() if v is not None}


def changed(settings: Any) -> dict[str, Any]:
  """The fields of a dataclass that differ from their defaults."""
  default = type(settings)()
  return {
    field.name: value
    for field in dataclasses.fields(settings)
    if (value := getattr(settings, field.name)) != getattr(default, field.name)
  }


# A NaN holds for none.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
  "temperature": (
    "finite and positive, or 0 for greedy",
    lambda x: 0 <= x < math.inf,
  ),
  "top_k": ("positive, or 0 for all", lambda k: k >= 0),
  "top_p": ("in (0, 1]; 1 keeps all", lambda p: 0 < p <= 1),
  "min_p": ("in [0, 1]; 0 keeps all", lambda p: 0 <= p <= 1),
  "typical_p": ("in (0, 1]; 1 keeps all", lambda p: 0 < p <= 1),
  "epsilon_cutoff": ("in [0, 1); 0 keeps all", lambda x: 0 <= x < 1),
  "eta_cutoff": ("in [0, 1); 0 keeps all", lambda x: 0 <= x < 1),
  "repetition_penalty": (
    "finite and positive; 1 is none",
    lambda x: 0 < x < math.inf,
  ),
  "frequency_penalty": ("in [-2, 2]; 0 is none", lambda x: -2 <= x <= 2),
  "presence_penalty": ("in [-2, 2]; 0 is none", lambda x: -2 <= x <= 2),
  "guidance_scale": ("finite; 1 is none", math.isfinite),
  "max_tokens": ("at least 1", lambda n: n >= 1),
  "n": ("at least 1", lambda n: n >= 1),
  "seed": ("in [0, 2^32)", lambda n: 0 <= n < 2**32),
}
