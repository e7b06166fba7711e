"""The core of every decoding: prefill, copy rows, one token more.

A block of prompts is prefilled up to the last token of each; a decoding then
starts any number of rows from them, and each step consumes one token a row and
gives the logits of the next.

What a row computes depends on its prompt and the settings, and not on its
neighbours: the number of rows is fixed and short batches are padded, and
prompts share a block only where their own lengths round to the same number of
slots. XLA sums in another order when a shape changes, and a difference of 1e-6
in a logit turns a draw once in a million tokens, in bfloat16 far more often.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..errors import UserError
from ..models.config import ModelConfig
from ..models.lm import apply
from ..models.param import Params
from ..models.state import init_state
from .constraints import make_matcher
from .filters import Chain
from .rows import Rows
from .settings import Sampling
from .text import Finish, Growing
from .tokenizer import Tokenizer, special_tokens, spell

# Slots come in multiples of this, so that a program serves many lengths.
_ROUND = 32
# Rows that one program computes together, unless the caller says otherwise: a
# CPU pays for each, an accelerator reads the weights once for all.
_ROWS = {"cpu": 4, "*": 32}


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(
  config: ModelConfig,
  params: Params,
  state: Any,
  tokens_XT: Int[Array, "X T"],
  positions_XT: Int[Array, "X T"],
  segments_XT: Int[Array, "X T"],
) -> tuple[Any, Float[Array, "X T D"]]:
  output = apply(config, params, tokens_XT, positions_XT, segments_XT, state)
  return output.state, output.hidden_BTD


_select = jax.jit(
  lambda config, rows, parents_B: rows.select(config, parents_B),
  static_argnums=0,
)


class Session:
  """One call of `generate`: the model, the settings, and how rows are laid out.

  Args:
    draws: whether the decoding draws tokens.
    n_rows: rows computed together; None: a number for the backend.
    on_text: gets (index of the completion, new text).
  """

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    sampling: Sampling,
    draws: bool,
    n_rows: int | None = None,
    on_text: Callable[[int, str], None] | None = None,
  ):
    self.config = config
    self.params = params
    self.tokenizer = tokenizer
    self.sampling = sampling
    self.on_text = on_text
    backend = jax.default_backend()
    self.n_rows = n_rows or _ROWS.get(backend, _ROWS["*"])
    self.filters = Chain.of(sampling, config.vocab_size, draws)
    self.matcher = make_matcher(sampling, tokenizer, config.vocab_size)
    self.negative: list[int] | None = None
    if sampling.guidance_scale != 1:
      self.negative = encode(
        config, tokenizer, sampling.negative_prompt, "negative_prompt"
      )
    token_V = np.arange(config.vocab_size)
    self.possible_V = token_V < tokenizer.vocab_size
    self.possible_V[[tokenizer.pad_id, tokenizer.bos_id]] = False
    # An imported vocabulary may have one token for two of them.
    self.possible_V[tokenizer.eos_id] = True
    control = special_tokens(tokenizer)
    ends = [control[text] for text in sampling.stop if text in control]
    self.ends_V = np.isin(token_V, [tokenizer.eos_id, *ends])

  def length(self, ids: Sequence[int]) -> int:
    """Positions that a prompt takes, or the longer negative prompt."""
    return max(len(ids), len(self.negative or ()))

  def blocks(self, prompts: Sequence[Sequence[int]]) -> "Iterator[Block]":
    """Prefills the prompts, together where that changes nothing."""
    by_slots: dict[int, list[int]] = {}
    for i, ids in enumerate(prompts):
      by_slots.setdefault(self._slots(ids), []).append(i)
    for T, indices in by_slots.items():
      for some in batched(indices, self.n_rows):
        yield Block(self, some, [prompts[i] for i in some], T)

  def block(self, prompts: Sequence[Sequence[int]]) -> "Block":
    """Prefills at most `n_rows` prompts together, whatever their lengths."""
    T = max(map(self._slots, prompts))
    return Block(self, range(len(prompts)), prompts, T)

  def _slots(self, ids: Sequence[int]) -> int:
    T = _ROUND
    while self.length(ids) - 1 > T:
      T *= 2
    return min(T, _rounded(self.config.max_len))

  def allowed(
    self,
    growing: Sequence[Growing | None],
    n_rows: int,
    dead_ends: bool = False,
  ) -> np.ndarray:
    """What the next tokens may be: bool [1 or n_rows, V].

    Args:
      growing: the rows, or the first of them; None for one that is over.
      dead_ends: leave a row that no token fits without any.

    Raises:
      UserError: a constraint that no token fits.
    """
    if self.matcher is None:
      return self.possible_V[None]
    allowed_BV = np.repeat(self.possible_V[None], n_rows, axis=0)
    for row, allowed_V in zip(growing, allowed_BV, strict=False):
      if row and row.matcher and not row.finish:
        allowed_V &= row.matcher.allowed()
        if not (dead_ends or allowed_V.any()):
          raise row.matcher.dead_end()
    return allowed_BV


class Block:
  """Prompts that are prefilled together, up to the last token of each.

  Attributes:
    indices: the numbers of the prompts in the call.
    hidden_XTD: what the prefill computed.
    mask_XT: which of its slots hold a token.
    n_slots: of the decode state.
  """

  def __init__(
    self,
    session: Session,
    indices: Sequence[int],
    prompts: Sequence[Sequence[int]],
    T: int,
  ):
    self.session, self.indices = session, indices
    config, B = session.config, session.n_rows
    # A short block is padded with its first prompt.
    self._prompts = [*prompts, *[prompts[0]] * (B - len(prompts))]
    halves = [self._prompts]
    if session.negative:
      halves.append([session.negative] * B)
    all_ids = [ids for half in halves for ids in half]
    self._lengths_X = np.array([len(ids) for ids in all_ids], np.int32)
    self._last_X = np.array([ids[-1] for ids in all_ids], np.int32)
    # Padding stands on the left, before position 0, as segment 0.
    positions_XT = (
      np.arange(T, dtype=np.int32) - T + self._lengths_X[:, None] - 1
    )
    self.mask_XT = positions_XT >= 0
    tokens_XT = np.full_like(positions_XT, session.tokenizer.pad_id)
    for row, ids in zip(tokens_XT, all_ids, strict=True):
      row[T + 1 - len(ids) :] = ids[:-1]
    # Room for what follows the shortest prompt that has T slots.
    shortest = T // 2 if T > _ROUND else 1
    room = min(session.sampling.max_tokens, config.max_len - shortest)
    # One more: contrastive search also consumes the last candidates.
    self.n_slots = T + _rounded(room + 1)
    state, self.hidden_XTD = _prefill(
      config,
      session.params,
      init_state(config, len(all_ids), self.n_slots),
      tokens_XT,
      np.maximum(positions_XT, 0),
      self.mask_XT.astype(np.int32),
    )
    prompt_BV = counts_BV = None
    if session.filters.counts:
      used_BV = np.zeros((B, config.vocab_size), bool)
      last_BV = np.zeros(used_BV.shape, np.int32)
      for b, ids in enumerate(self._prompts):
        used_BV[b, ids] = True
        # The first step consumes it, and it is no output.
        last_BV[b, ids[-1]] = -1
      prompt_BV, counts_BV = jnp.asarray(used_BV), jnp.asarray(last_BV)
    self._rows = Rows(state, prompt_BV, counts_BV, B, len(halves))

  def start(self, owners: Sequence[int], n_rows: int) -> "Front":
    """Rows that continue the prompts `owners`, padded to `n_rows`."""
    session = self.session
    growing = [self._growing(i) for i in owners]
    owners = [*owners, *[owners[0]] * (n_rows - len(owners))]
    owners_B = np.array(owners, np.int32)

    def of_owners(a_X: np.ndarray) -> np.ndarray:
      return a_X.reshape(-1, session.n_rows)[:, owners_B].reshape(-1)

    return Front(
      _select(session.config, self._rows, owners_B),
      of_owners(self._last_X),
      of_owners(self._lengths_X) - 1,
      growing,
    )

  def ids(self, i: int) -> Sequence[int]:
    """The ids of a prompt."""
    return self._prompts[i]

  def digest(self, i: int) -> int:
    """32 bits of a prompt's ids."""
    return zlib.crc32(np.array(self._prompts[i], np.int32).tobytes())

  def text(self, i: int) -> str:
    """The text of a prompt."""
    return spell(self.session.tokenizer, self._prompts[i])

  def _growing(self, i: int) -> Growing:
    session, ids = self.session, self._prompts[i]
    room = session.config.max_len - session.length(ids)
    limit = session.sampling.max_tokens
    why: Finish = "length"
    if room < limit:
      limit, why = room, "context"
    matcher = session.matcher and session.matcher.fork()
    return Growing(
      session.tokenizer, session.sampling.stop, limit, why, matcher
    )


@dataclasses.dataclass
class Front:
  """Where rows stand: they are consumed up to a last token each.

  Attributes:
    tokens_X, positions_X: the tokens not yet consumed, and where they stand.
    growing: the rows without padding.
  """

  rows: Rows
  tokens_X: np.ndarray
  positions_X: np.ndarray
  growing: list[Growing]

  def going_B(self) -> np.ndarray:
    """Which rows are not finished; padding never goes."""
    going_B = np.zeros(self.rows.n_rows, bool)
    going_B[: len(self.growing)] = [not row.finish for row in self.growing]
    return going_B

  def move(self, tokens_B: np.ndarray, steps: int = 1) -> None:
    """The next tokens to consume, `steps` positions on."""
    self.tokens_X = np.tile(tokens_B, self.rows.halves)
    self.positions_X = self.positions_X + np.int32(steps)


def encode(
  config: ModelConfig,
  tokenizer: Tokenizer,
  prompt: str | Sequence[int],
  key: str = "prompt",
) -> list[int]:
  """The ids of a text after BOS; ids stay as they are.

  Args:
    key: what the text is called, for messages.

  Raises:
    UserError: there are none, or too many, or one is unknown.
  """
  if isinstance(prompt, str):
    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
    shown = f"{prompt[:20]!r}..."
  else:
    ids, shown = [int(token) for token in prompt], f"{list(prompt[:5])}..."
    unknown = [i for i in ids if not 0 <= i < tokenizer.vocab_size]
    if unknown or not ids:
      raise UserError(
        f"the {key} {shown} "
        + (f"holds {unknown[0]}, which is no id" if ids else "is empty")
        + f"; ids are in [0, {tokenizer.vocab_size}), and one at least"
      )
  if len(ids) >= config.max_len:
    raise UserError(
      f"the {key} {shown} has {len(ids)} tokens with BOS, and"
      f" model.max_len={config.max_len} leaves no room to continue it; shorten"
      f" the {key}, or train with a larger model.max_len"
    )
  return ids


def batched(items: Sequence[Any], n: int) -> Iterator[Sequence[Any]]:
  for start in range(0, len(items), n):
    yield items[start : start + n]


def _rounded(n: int) -> int:
  return -(-n // _ROUND) * _ROUND
