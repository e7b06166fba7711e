"""Temperature, top-k, nucleus sampling (Holtzman 2019, arXiv:1904.09751).

completions = generate(config, params, tokenizer, ["def "], Sampling())
completions[0].text
"""

import codecs
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..errors import UserError
from ..models.config import ModelConfig
from ..models.lm import apply
from ..models.param import Params
from ..models.state import init_state
from ..parallel import rules

# Prompts and decode states have a multiple of this many slots, so that one
# compiled program serves many lengths.
_ROUND = 32


@runtime_checkable
class Tokenizer(Protocol):
  """The part of a tokenizer that generation needs."""

  vocab_size: int
  pad_id: int
  bos_id: int
  eos_id: int

  def encode(self, text: str) -> list[int]: ...

  def token_bytes(self, token: int) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to choose tokens, and when to stop.

  Attributes:
    temperature: divides the logits; 0: greedy.
    top_k: number of most likely tokens to choose among; 0: all.
    top_p: probability mass of the most likely ones to choose among, (0, 1].
    max_tokens: generated for each prompt, at most.
    stop: texts that end a completion and are not part of it.
    seed: in [0, 2^32).
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 100
  stop: tuple[str, ...] = ()
  seed: int = 0

  def __post_init__(self):
    if not (math.isfinite(self.temperature) and self.temperature >= 0):
      raise UserError(
        f"temperature={self.temperature} must be finite and positive, or 0 for"
        " greedy"
      )
    if self.top_k < 0:
      raise UserError(f"top_k={self.top_k} must be positive, or 0 for all")
    if not 0 < self.top_p <= 1:
      raise UserError(f"top_p={self.top_p} must be in (0, 1]; 1 keeps all")
    if self.max_tokens < 1:
      raise UserError(f"max_tokens={self.max_tokens} must be at least 1")
    if isinstance(self.stop, str):
      raise UserError(
        f"stop={self.stop!r} must be a tuple of texts; use ({self.stop!r},)"
      )
    if "" in self.stop:
      raise UserError(f"stop={self.stop!r} holds an empty text; drop it")
    if not 0 <= self.seed < 2**32:
      raise UserError(f"seed={self.seed} must be in [0, 2^32)")


Finish = Literal["stop", "eos", "length", "context"]


@dataclasses.dataclass(frozen=True)
class Completion:
  """The continuation of one prompt.

  Attributes:
    text: without the prompt and without the stop text.
    tokens: as sampled, the end of text or the stop text included.
    logprobs: of `tokens`, in nats, by the model itself: before temperature
      and filters, as in training.
    finish: what ended it: a stop text, the end-of-text token, `max_tokens`,
      or `model.max_len`.
  """

  text: str
  tokens: tuple[int, ...]
  logprobs: tuple[float, ...]
  finish: Finish


def filter_logits(
  logits_BV: Float[Array, "B V"],
  temperature: float,
  top_k: int,
  top_p: float,
) -> Float[Array, "B V"]:
  """logits / temperature, with -inf for what is not to be sampled.

  First the `top_k` most likely are kept; of these, with the probabilities
  among themselves, each token for which the more likely ones sum to less than
  `top_p`. Equal logits are kept or dropped together. Temperature 0 keeps the
  first of the most likely tokens alone.
  """
  if not temperature:
    best_B = logits_BV.argmax(-1)
    is_best_BV = jnp.arange(logits_BV.shape[-1]) == best_B[:, None]
    return jnp.where(is_best_BV, logits_BV, -jnp.inf)
  logits_BV = logits_BV / temperature
  if 0 < top_k < logits_BV.shape[-1]:
    kth_B = jax.lax.top_k(logits_BV, top_k)[0][:, -1]
    logits_BV = jnp.where(logits_BV >= kth_B[:, None], logits_BV, -jnp.inf)
  if top_p < 1:
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    p_BV = jax.nn.softmax(sorted_BV, axis=-1)
    more_likely_BV = jnp.cumsum(p_BV, axis=-1) - p_BV
    last_B = (more_likely_BV < top_p).sum(-1) - 1
    least_B1 = jnp.take_along_axis(sorted_BV, last_B[:, None], axis=-1)
    logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
  return logits_BV


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3,))
def _advance(
  config: ModelConfig,
  filters: tuple[float, int, float],
  params: Params,
  state: Any,
  tokens_BT: Int[Array, "B T"],
  positions_BT: Int[Array, "B T"],
  segment_ids_BT: Int[Array, "B T"],
  banned_V: Bool[Array, " V"],
  key: Array,
) -> tuple[Any, Int[Array, " B"], Float[Array, " B"]]:
  """Consumes a chunk; returns the state, the next tokens and their logprobs."""
  output = apply(config, params, tokens_BT, positions_BT, segment_ids_BT, state)
  last = dataclasses.replace(output, hidden_BTD=output.hidden_BTD[:, -1:])
  logits_BV = last.logits()[:, 0]

  def draw(example, position, logits_V):
    own = jax.random.fold_in(jax.random.fold_in(key, example), position)
    return jax.random.categorical(own, logits_V)

  allowed_BV = jnp.where(banned_V, -jnp.inf, logits_BV)
  next_B = jax.vmap(draw)(
    jnp.arange(tokens_BT.shape[0]),
    positions_BT[:, -1] + 1,
    filter_logits(allowed_BV, *filters),
  )
  logprobs_BV = jax.nn.log_softmax(logits_BV)
  logprobs_B = jnp.take_along_axis(logprobs_BV, next_B[:, None], 1)[:, 0]
  return output.state, next_B, logprobs_B


class _Stream:
  """One completion as it grows: bytes in, whole characters out."""

  def __init__(self, stop: tuple[str, ...]):
    self.text = ""  # passed on
    self.tokens: list[int] = []
    self.logprobs: list[float] = []
    self.finish: Finish | None = None
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
      self.finish = "stop"
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

  def completion(self) -> Completion:
    assert self.finish
    return Completion(
      self.text, tuple(self.tokens), tuple(self.logprobs), self.finish
    )


def _encode(
  config: ModelConfig, tokenizer: Tokenizer, prompt: str
) -> list[int]:
  ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
  if len(ids) >= config.max_len:
    raise UserError(
      f"the prompt {prompt[:20]!r}... has {len(ids)} tokens with BOS, and"
      f" model.max_len={config.max_len} leaves no room to continue it; shorten"
      " the prompt, or train with a larger model.max_len"
    )
  return ids


def generate(
  config: ModelConfig,
  params: Params,
  tokenizer: Tokenizer,
  prompts: Sequence[str],
  sampling: Sampling,
  on_text: Callable[[int, str], None] | None = None,
) -> list[Completion]:
  """Continues each prompt, all of them as one batch.

  A continuation depends on (seed, index of the prompt, prompt), and not on
  the other prompts, unless a mixer is `batch_dependent`. The work lies on the
  devices of `params`.

  Args:
    on_text: called with the prompt's index and each new piece of its text:
      whole characters, and nothing of a stop text.

  Raises:
    UserError: a prompt that fills model.max_len, or a mixer that can't decode.
  """
  ids = [_encode(config, tokenizer, prompt) for prompt in prompts]
  if not ids:
    return []
  B = len(ids)
  T = -(-max(map(len, ids)) // _ROUND) * _ROUND
  room = config.max_len - min(map(len, ids))
  S = T + -(-min(sampling.max_tokens, room) // _ROUND) * _ROUND

  lengths_B = np.array([len(row) for row in ids], np.int32)
  # Padding stands on the left, before position 0, as segment 0.
  positions_BT = np.arange(T, dtype=np.int32) - (T - lengths_B[:, None])
  segment_ids_BT = (positions_BT >= 0).astype(np.int32)
  positions_BT = np.maximum(positions_BT, 0)
  tokens_BT = np.full((B, T), tokenizer.pad_id, np.int32)
  for row, prompt_ids in zip(tokens_BT, ids, strict=True):
    row[T - len(prompt_ids) :] = prompt_ids

  banned_V = np.arange(config.vocab_size) >= tokenizer.vocab_size
  banned_V[[tokenizer.pad_id, tokenizer.bos_id]] = True
  banned_V[tokenizer.eos_id] = False  # GPT-2 has one id for all three
  key = jax.random.key(sampling.seed)
  filters = (sampling.temperature, sampling.top_k, sampling.top_p)
  streams = [_Stream(sampling.stop) for _ in ids]

  # No layout: the compiled step is kept between calls, whatever their meshes,
  # and XLA takes placement from the parameters.
  with rules.use(None):
    state = init_state(config, B, S)
    while True:
      state, next_B, logprobs_B = _advance(
        config,
        filters,
        params,
        state,
        tokens_BT,
        positions_BT,
        segment_ids_BT,
        banned_V,
        key,
      )
      next_B, logprobs_B = np.asarray(next_B), np.asarray(logprobs_B)
      positions_B = positions_BT[:, -1] + 1
      for i, stream in enumerate(streams):
        if stream.finish:
          continue
        token = int(next_B[i])
        stream.tokens.append(token)
        stream.logprobs.append(float(logprobs_B[i]))
        text = stream.push(tokenizer.token_bytes(token))
        if not stream.finish:
          if token == tokenizer.eos_id:
            stream.finish = "eos"
          elif len(stream.tokens) == sampling.max_tokens:
            stream.finish = "length"
          elif positions_B[i] + 1 == config.max_len:
            stream.finish = "context"
          if stream.finish:
            text += stream.push(b"", final=True)
        if on_text and text:
          on_text(i, text)
      if all(stream.finish for stream in streams):
        return [stream.completion() for stream in streams]
      tokens_BT, positions_BT = next_B[:, None], positions_B[:, None]
      # What follows the end of a completion is padding again.
      going = [[not stream.finish] for stream in streams]
      segment_ids_BT = np.array(going, np.int32)


@functools.partial(jax.jit, static_argnums=0)
def score(
  config: ModelConfig,
  params: Params,
  tokens_BT: Int[Array, "B T"],
  positions_BT: Int[Array, "B T"] | None = None,
  segment_ids_BT: Int[Array, "B T"] | None = None,
) -> Float[Array, "B T-1"]:
  """Log-probabilities, in nats, of all tokens but the first.

  By the forward pass of training: what `Completion.logprobs` must equal.
  """
  output = apply(config, params, tokens_BT, positions_BT, segment_ids_BT)
  logprobs_BTV = jax.nn.log_softmax(output.logits()[:, :-1])
  targets_BT = tokens_BT[:, 1:, None]
  return jnp.take_along_axis(logprobs_BTV, targets_BT, -1)[..., 0]
