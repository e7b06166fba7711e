"""FILTERS: what stands between a model's logits and the draw.

An entry is a function `(logits_BV, value, seen) -> logits_BV`, where `value` is
the setting of its name, a traced number: a sweep over temperatures compiles
once. They are applied in the order of the registry, which is that of
transformers' `generate`; only those whose setting is not neutral are traced.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...registry import Registry
from ..settings import Sampling, changed

FILTERS = Registry(
  "filter",
  "filters",
  __name__,
  {
    "guidance_scale": "guidance_scale:guidance_scale",
    "logit_bias": "logit_bias:logit_bias",
    "repetition_penalty": "repetition_penalty:repetition_penalty",
    "frequency_penalty": "frequency_penalty:frequency_penalty",
    "presence_penalty": "presence_penalty:presence_penalty",
    "temperature": "temperature:temperature",
    "top_k": "top_k:top_k",
    "top_p": "top_p:top_p",
    "min_p": "min_p:min_p",
    "typical_p": "typical_p:typical_p",
    "epsilon_cutoff": "epsilon_cutoff:epsilon_cutoff",
    "eta_cutoff": "eta_cutoff:eta_cutoff",
  },
  word="{name}=X",
)
BUILT_IN = tuple(FILTERS)
# What shapes the distribution that is drawn from, and so has no meaning where
# nothing is drawn.
OF_THE_DRAW = BUILT_IN[BUILT_IN.index("temperature") :]
# Which have a setting of their own; any other is reached by `filters`.
SETTINGS = tuple(w for w in BUILT_IN if w in Sampling.__dataclass_fields__)
_COUNTING = ("repetition_penalty", "frequency_penalty", "presence_penalty")


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("model_BV", "unguided_BV", "prompt_BV", "counts_BV"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Seen:
  """What a filter may look at beside the logits.

  Attributes:
    model_BV: the model's own logits, before any filter and any mask.
    unguided_BV: its logits after the negative prompt; None without guidance.
    prompt_BV: which tokens are in the prompt; None where no filter counts.
    counts_BV: how often each token is in the output; likewise.
  """

  model_BV: Float[Array, "B V"]
  unguided_BV: Float[Array, "B V"] | None = None
  prompt_BV: Bool[Array, "B V"] | None = None
  counts_BV: Int[Array, "B V"] | None = None


@dataclasses.dataclass(frozen=True)
class Chain:
  """The filters of one call: static words, and arrays that are traced.

  Attributes:
    words: in the order of application. "greedy" is the last where temperature
      is 0: it keeps the first of the likeliest tokens alone.
    values: one for each word but "greedy".
  """

  words: tuple[str, ...]
  values: dict[str, np.ndarray]

  @classmethod
  def of(cls, sampling: Sampling, vocab_size: int, draws: bool) -> "Chain":
    """The filters that `sampling` asks for.

    Args:
      draws: whether tokens are drawn; else the settings of the draw are left
        out, and `refuse_draw_settings` has refused them.

    Raises:
      UserError: an unknown filter, or a bias for a token that is not there.
    """
    for word, value in sampling.filters.items():
      if word in SETTINGS:
        raise UserError(
          f"filters={{{word!r}: {value}}} is a setting of its own; use"
          f" {word}={value}"
        )
      FILTERS[word]  # an unknown one is named
    given = {**changed(sampling), **sampling.filters}
    values: dict[str, np.ndarray] = {}
    greedy = draws and sampling.temperature == 0
    for word in FILTERS:
      of_the_draw = word in SETTINGS and word in OF_THE_DRAW
      if word not in given or (of_the_draw and (greedy or not draws)):
        continue
      if word == "logit_bias":
        values[word] = _dense(sampling.logit_bias, vocab_size)
      else:
        dtype = np.int32 if word == "top_k" else np.float32
        values[word] = np.asarray(given[word], dtype)
    return cls((*values, "greedy") if greedy else tuple(values), values)

  @property
  def counts(self) -> bool:
    """Whether a filter needs to know prompt and output."""
    return any(w in _COUNTING or w not in SETTINGS for w in self.values)


def apply_filters(
  words: tuple[str, ...],
  values: Mapping[str, Array],
  allowed_BV: Bool[Array, "#B V"],
  seen: Seen,
) -> Float[Array, "B V"]:
  """The model's logits with the mask and then every filter applied.

  Args:
    allowed_BV: what a constraint and the tokenizer allow; the rest is -inf.
  """
  logits_BV = jnp.where(allowed_BV, seen.model_BV, -jnp.inf)
  for word in words:
    if word == "greedy":
      best_BV = jax.nn.one_hot(logits_BV.argmax(-1), logits_BV.shape[-1])
      logits_BV = jnp.where(best_BV == 1, logits_BV, -jnp.inf)
    else:
      logits_BV = FILTERS[word](logits_BV, values[word], seen)
  return logits_BV


def refuse_draw_settings(
  sampling: Sampling, decoding: str, draws: bool
) -> None:
  """Raises UserError for a setting that is ignored where nothing is drawn.

  `seed` is not among them: it is harmless.

  Args:
    draws: whether `decoding` draws; at temperature=0 it does not either.
  """
  greedy = draws and sampling.temperature == 0
  if draws and not greedy:
    return
  for word, value in changed(sampling).items():
    if word not in OF_THE_DRAW or (greedy and word == "temperature"):
      continue
    why, fix = f"decoding={decoding}", "use decoding=sample"
    if greedy:
      why, fix = "temperature=0", "raise temperature"
    raise UserError(
      f"{word}={value} shapes a draw, and {why} draws nothing; drop it, or"
      f" {fix}"
    )
  if greedy and sampling.n > 1:
    raise UserError(
      f"n={sampling.n}: temperature=0 draws nothing, so all would be one; use"
      " n=1, or raise temperature"
    )


def _dense(bias: Mapping[int, float | int], vocab_size: int) -> np.ndarray:
  bias_V = np.zeros(vocab_size, np.float32)
  for token, value in bias.items():
    if not 0 <= token < vocab_size:
      raise UserError(
        f"logit_bias={{{token}: {value}}} names no token; ids are in"
        f" [0, {vocab_size})"
      )
    bias_V[token] = value
  return bias_V
