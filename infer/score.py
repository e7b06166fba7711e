"""Log-likelihoods of texts, in batches, as lm-eval has them (Gao et al. 2024).

A sequence is padded on the right to one of a few lengths and scored with a
fixed number of others, so that few programs are compiled; padding is segment 0,
and nothing a token depends on. Sums are in float64.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..errors import UserError
from ..models.config import ModelConfig
from ..models.lm import LOGITS_PER_CHUNK, apply
from ..models.param import Params
from ..models.state import sees_later
from ..parallel import rules
from .tokenizer import Tokenizer

# The least length; the others are twice the one before.
_SHORTEST = 32
# Rows of one program, unless the caller says otherwise, as in `session.py`.
_ROWS = {"cpu": 4, "*": 32}

Ids = Sequence[int]


class Row(NamedTuple):
  """What a model reads in T slots and what it is to predict there.

  segment_ids: 1, 2, ... for the pieces of the row; 0 on padding.
  positions: from 0 within each piece.
  """

  tokens: np.ndarray
  targets: np.ndarray
  segment_ids: np.ndarray
  positions: np.ndarray


class Scored(NamedTuple):
  """A continuation under the model.

  logprobs: of its tokens, in nats.
  greedy: whether each is the likeliest token at its place.
  n_cut: tokens at the beginning of the context that the model had no room for.
  """

  logprobs: np.ndarray
  greedy: np.ndarray
  n_cut: int = 0

  @property
  def total(self) -> float:
    """The log-likelihood of the continuation."""
    # float64: a long text's sum has more digits than its terms.
    return float(self.logprobs.sum(dtype=np.float64))

  @property
  def is_greedy(self) -> bool:
    """Whether greedy decoding would give the continuation."""
    return bool(self.greedy.all())


def split(
  tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
  """The ids of BOS and the context, and those of the continuation.

  As lm-eval does it: spaces at the context's end belong to the continuation,
  and both are encoded as one text, then cut where the context's own ids end.
  Where the context's ids do not begin that text's, because a token lies across
  the border, the harness would score ids that do not spell the continuation;
  here it is then encoded by itself.
  """
  border = len(context.rstrip())
  context, continuation = context[:border], context[border:] + continuation
  ids = tokenizer.encode(context) if context else []
  whole = tokenizer.encode(context + continuation)
  if whole[: len(ids)] == ids and (len(whole) > len(ids) or not continuation):
    rest = whole[len(ids) :]
  else:
    rest = tokenizer.encode(continuation)
  return [tokenizer.bos_id, *ids], rest


def windows(
  ids: Ids, first: int, max_len: int, least_context: int = 1
) -> Iterator[tuple[list[int], list[int]]]:
  """Cuts a text into (context, continuation), each token continued to once.

  A window has at most `max_len` inputs, and each but the first has all of them,
  so that the last one, too, is given all the context it can have.

  Args:
    first: the token before the text, BOS.
    least_context: tokens that any prediction sees, but for the text's first; 1
      makes the fewest windows, `max_len` one for each token.
  """
  assert 1 <= least_context <= max_len, (least_context, max_len)
  whole, start = [first, *ids], 0
  while start < len(ids):
    new = max_len - least_context + 1 if start else max_len
    end = min(start + new, len(ids))
    begin = max(0, end - max_len)
    yield whole[begin : start + 1], whole[start + 1 : end + 1]
    start = end


@functools.partial(jax.jit, static_argnums=0)
def _forward(
  config: ModelConfig,
  params: Params,
  tokens_BT: Int[Array, "B T"],
  targets_BT: Int[Array, "B T"],
  positions_BT: Int[Array, "B T"],
  segments_BT: Int[Array, "B T"],
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
  """Log-probability of each target, and whether it is the likeliest token."""
  output = apply(config, params, tokens_BT, positions_BT, segments_BT)

  def of_some(hidden_BCD, targets_BC):
    logits_BCV = dataclasses.replace(output, hidden_BTD=hidden_BCD).logits()
    logprobs_BCV = jax.nn.log_softmax(logits_BCV)
    logprobs_BC1 = jnp.take_along_axis(logprobs_BCV, targets_BC[..., None], -1)
    return logprobs_BC1[..., 0], logits_BCV.argmax(-1) == targets_BC

  # As in a loss, never all logits at a time.
  B, T = tokens_BT.shape
  budget = LOGITS_PER_CHUNK.get(jax.default_backend(), LOGITS_PER_CHUNK["*"])
  C = max(1, budget // (B * config.vocab_size))
  if C >= T:
    return of_some(output.hidden_BTD, targets_BT)
  pad = -T % C

  def chunks(a: Array) -> Array:
    a = jnp.pad(a, ((0, 0), (0, pad)) + ((0, 0),) * (a.ndim - 2))
    return a.reshape(B, -1, C, *a.shape[2:]).swapaxes(0, 1)

  found = jax.lax.map(
    lambda some: of_some(*some), (chunks(output.hidden_BTD), chunks(targets_BT))
  )
  return jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(B, -1)[:, :T], found)


class Scorer:
  """Scores texts with one model.

  Args:
    n_rows: rows computed together; None: a number for the backend.

  Raises:
    UserError: a mixer sees later tokens, so that there is no likelihood.
  """

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    n_rows: int | None = None,
  ):
    if word := sees_later(config):
      raise UserError(
        f"{word} is not causal, so the model gives texts no likelihood;"
        " evaluate a causal one"
      )
    if n_rows is not None and n_rows < 1:
      raise UserError(f"n_rows={n_rows} must be at least 1")
    self.config, self.params, self.tokenizer = config, params, tokenizer
    self.n_rows = n_rows or _ROWS.get(jax.default_backend(), _ROWS["*"])

  def rows(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Scored]]:
    """Scores rows of one length; what stands on padding means nothing.

    Raises:
      UserError: a log-probability is not finite.
    """
    rows = iter(rows)
    while some := list(itertools.islice(rows, self.n_rows)):
      # Padding is copies: the shape stays, and no row sees another.
      full = [*some, *[some[0]] * (self.n_rows - len(some))]
      tokens, targets, segments, positions = map(
        np.stack, zip(*full, strict=True)
      )
      # No layout: XLA takes placement from the parameters.
      with rules.use(None):
        found: Any = jax.device_get(
          _forward(
            self.config, self.params, tokens, targets, positions, segments
          )
        )
      for row, logprobs_T, greedy_T in zip(some, *found, strict=False):
        if not np.isfinite(logprobs_T[row.segment_ids > 0]).all():
          raise UserError(
            "the model's log-probabilities are not finite: its weights have"
            " diverged; load an earlier step, or train with a lower opt.lr"
          )
        yield row, Scored(logprobs_T, greedy_T)

  def ids(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Scored]:
    """Scores the second of each pair after the first.

    A context that is too long loses its beginning.

    Raises:
      UserError: a continuation alone is longer than model.max_len.
    """
    max_len = self.config.max_len
    by_length: dict[int, list[int]] = {}
    rows: list[Row] = []
    for i, (context, continuation) in enumerate(pairs):
      assert len(context) and len(continuation), (context, continuation)
      if len(continuation) > max_len:
        raise UserError(
          f"a continuation has {len(continuation)} tokens, more than"
          f" model.max_len={max_len}; shorten it"
        )
      T = _SHORTEST
      whole = [*context, *continuation][-(max_len + 1) :]
      while len(whole) - 1 > T:
        T *= 2
      by_length.setdefault(min(T, max_len), []).append(i)
      rows.append(_row(whole, min(T, max_len)))
    found: dict[int, Scored] = {}
    # The longest first: what does not fit the memory is told at once.
    for T in sorted(by_length, reverse=True):
      indices = by_length[T]
      scored = self.rows(rows[i] for i in indices)
      for i, (row, score) in zip(indices, scored, strict=True):
        context, continuation = pairs[i]
        end = int(row.segment_ids.sum())
        place = slice(end - len(continuation), end)
        n_cut = len(context) + len(continuation) - (end + 1)
        found[i] = Scored(score.logprobs[place], score.greedy[place], n_cut)
    return [found[i] for i in range(len(pairs))]

  def texts(self, pairs: Sequence[tuple[str, str]]) -> list[Scored]:
    """Scores continuations of contexts; an empty context is BOS alone."""
    return self.ids([split(self.tokenizer, *pair) for pair in pairs])

  def rolling(
    self, texts: Sequence[str], least_context: int = 1
  ) -> list[Scored]:
    """Scores whole texts of any length after BOS, by `windows`."""
    bos, max_len = self.tokenizer.bos_id, self.config.max_len
    cut = [
      list(windows(self.tokenizer.encode(text), bos, max_len, least_context))
      for text in texts
    ]
    scored = iter(self.ids([window for some in cut for window in some]))
    found = []
    for some in cut:
      parts = list(itertools.islice(scored, len(some)))
      found.append(
        Scored(
          np.concatenate(
            [np.zeros(0, np.float32), *(p.logprobs for p in parts)]
          ),
          np.concatenate([np.zeros(0, bool), *(p.greedy for p in parts)]),
        )
      )
    return found


def _row(ids: Ids, T: int) -> Row:
  """One sequence, padded on the right to T inputs."""
  n = len(ids) - 1
  arrays = np.zeros((4, T), np.int32)
  tokens, targets, segment_ids, positions = arrays
  tokens[:n], targets[:n], segment_ids[:n] = ids[:-1], ids[1:], 1
  positions[:n] = np.arange(n)
  return Row(*arrays)
