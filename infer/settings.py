"""What generation is asked for: every setting, its range, its neutral value.

Without JAX, so that a command can show its help at once.
"""

import dataclasses
import math
import numbers
import types
import typing
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
    filters: filters that have no setting of their own, a plugin's for
      instance, name -> value; in the order of the registry, a plugin's last.
    regex: the output matches this regular expression as a whole.
    json_schema: the output is JSON that this schema accepts; a schema's text
      or the schema itself.
    grammar: the output is a sentence of this Lark grammar.
    constraints: constraints that have no setting of their own, a plugin's for
      instance, name -> value.
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
  constraints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  max_tokens: int = 100
  stop: tuple[str, ...] = ()
  n: int = 1
  seed: int = 0

  def __post_init__(self):
    if isinstance(self.stop, str):
      raise UserError(
        f"stop={self.stop!r} must be a tuple of texts; use ({self.stop!r},)"
      )
    check_types(self)
    for name, (rule, holds) in _RULES.items():
      if not holds(getattr(self, name)):
        raise UserError(f"{name}={getattr(self, name)} must be {rule}")
    for token, bias in self.logit_bias.items():
      shown = f"logit_bias={{{token!r}: {bias!r}}}"
      if not _is_a(numbers.Integral, token) or token < 0:
        raise UserError(f"{shown}: a key must be a token's id, 0 or more")
      if not _is_finite(bias):
        raise UserError(
          f"{shown} must be a finite number, at most 3e38; -100 forbids a token"
        )
    for word, value in self.filters.items():
      shown = f"filters={{{word!r}: {value!r}}}"
      if not isinstance(word, str):
        raise UserError(f"{shown}: a key must be a filter's name")
      if not _is_finite(value):
        raise UserError(f"{shown} must be a finite number, at most 3e38")
    if odd := [text for text in self.stop if not isinstance(text, str)]:
      raise UserError(f"stop={self.stop!r} holds {odd[0]!r}; give texts alone")
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
    own = {k: v for k, v in own.items() if v is not None}
    for word, value in self.constraints.items():
      if word in words:
        raise UserError(
          f"constraints={{{word!r}: ...}} is a setting of its own; use {word}="
        )
      own[word] = value
    return own


def check_types(settings: Any) -> None:
  """Raises UserError where a dataclass has a value of another type."""
  for name, hint in typing.get_type_hints(type(settings)).items():
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    hints = typing.get_args(hint) if union else (hint,)
    kinds = {typing.get_origin(kind) or kind for kind in hints}
    # 1 is a number of any kind; float | int is one rule.
    kinds -= {int} if float in kinds else set()
    value = getattr(settings, name)
    # The words of a Literal are the dataclass's own to check.
    if typing.Literal in kinds or any(
      _is_a(_ABSTRACT.get(kind, kind), value) for kind in kinds
    ):
      continue
    rule = " or ".join(_KINDS[kind] for kind in _KINDS if kind in kinds)
    raise UserError(f"{name}={value!r} must be {rule}")


# NumPy's numbers are as good as Python's.
_ABSTRACT = {int: numbers.Integral, float: numbers.Real}
_KINDS = {
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple of texts",
  Mapping: "a mapping",
  Callable: "a function",
  types.NoneType: "None",
}


def _is_a(kind: Any, value: Any) -> bool:
  return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
  """Whether float32, which filters compute in, holds the number."""
  return _is_a(numbers.Real, value) and abs(value) <= 3e38


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
