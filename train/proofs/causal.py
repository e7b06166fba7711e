"""Proof: no position sees the future, or another packed document."""

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import UserError
from ...models import lm
from ...models.ffn import FFNS
from ...models.state import sees_later
from ..config import Config
from ..setup import fit_vocab
from . import LEAK_TOLERANCE, Check

# fp32: the same numbers in another order, as experts sort their tokens.
CHANGE_TOLERANCE = 1e-5


def influence(
  config, params, tokens_1T, segments_1T, positions_1T
) -> np.ndarray:
  """|d output_t / d embedding_s| as [T, S], for distinct tokens.

  With each slot another token, the gradient in the embedding table tells the
  slots apart.
  """
  direction = jax.random.normal(jax.random.key(7), (config.d_model,))

  def output(table, t):
    hidden = lm.apply(
      config,
      {**params, "embedding": table},
      tokens_1T,
      positions_1T,
      segments_1T,
    ).hidden_BTD
    return (hidden[0, t].astype(jnp.float32) * direction).sum()

  @jax.jit
  def row(t):
    grad_VD = jax.grad(output)(params["embedding"], t)
    return jnp.abs(grad_VD[tokens_1T[0]]).max(-1)

  T = tokens_1T.shape[1]
  return np.stack([np.asarray(row(t)) for t in range(T)])


def substitution(
  config, params, tokens_1T, segments_1T, positions_1T
) -> np.ndarray:
  """|change of output_t| where token s is another one, as [T, S].

  A choice, as that of experts or of blocks, has no gradient. Relative to the
  largest output.
  """
  # fp32, and no scale that a tensor's tokens share, as in fp8.
  config = dataclasses.replace(
    config, compute_dtype="float32", matmul="default"
  )
  T = tokens_1T.shape[1]
  rows_RT = np.repeat(tokens_1T, T + 1, axis=0)
  slots = np.arange(T)
  rows_RT[slots, slots] = (rows_RT[slots, slots] + 1) % config.vocab_size

  @jax.jit
  def run(*row):
    return lm.apply(config, params, *row).hidden_BTD

  others = [np.repeat(a, T + 1, axis=0) for a in (positions_1T, segments_1T)]
  out_RTD = np.asarray(run(*map(jnp.asarray, (rows_RT, *others))))
  moved_ST = np.abs(out_RTD[:T] - out_RTD[T]).max(-1)
  return moved_ST.T / np.abs(out_RTD[T]).max()


def prove(config: Config, length: int = 37) -> Iterator[Check]:
  """Takes every gradient of a row of three packed documents and padding."""
  model = config.model
  if not model.vocab_size:
    model = fit_vocab(config, config.data.vocab_size).model
  T = min(length, model.max_len, model.vocab_size)
  if T < 12:
    raise UserError(
      f"model.max_len={model.max_len} is too short to pack three documents;"
      " prove it with at least 12"
    )
  params = lm.init(model, jax.random.key(config.seed))
  rng = np.random.default_rng(config.seed)
  tokens = rng.permutation(model.vocab_size)[:T][None]
  cuts = [0, T // 4, T // 4 + 1, T - 5, T]  # one document is a single token
  segments = np.zeros((1, T), np.int32)
  positions = np.zeros((1, T), np.int32)
  for i, (start, end) in enumerate(itertools.pairwise(cuts[:-1])):
    segments[0, start:end] = i + 1
    positions[0, start:end] = np.arange(end - start)
  row = tokens, segments, positions
  seen = influence(model, params, *map(jnp.asarray, row))
  moved = substitution(model, params, *row)

  t, s = np.arange(T)[:, None], np.arange(T)[None, :]
  same = (segments[0][:, None] == segments[0][None, :]) & (segments[0] != 0)
  real = (segments[0] != 0)[:, None]

  def largest(where) -> tuple[float, float]:
    """Of the gradients, relative to the largest of all, and of the changes."""
    gradient, change = (np.where(where, a, 0).max() for a in (seen, moved))
    return float(gradient / seen.max()), float(change)

  def unseen(claim: str, where) -> Check:
    gradient, change = largest(where)
    return Check(
      claim,
      gradient <= LEAK_TOLERANCE and change <= CHANGE_TOLERANCE,
      f"of {int(where.sum())} pairs: largest gradient {gradient:.1e}, largest"
      f" change {change:.1e}",
    )

  def does_see(claim: str, where) -> Check:
    gradient, change = largest(where)
    return Check(
      claim,
      gradient > LEAK_TOLERANCE or change > CHANGE_TOLERANCE,
      f"largest gradient {gradient:.1e}, largest change {change:.1e}",
    )

  future, others = (s > t) & real, ~same & (s != t) & real
  if sees_later(model):
    claim = "what is declared not causal sees later positions"
    yield does_see(claim, future & same)
  else:
    yield unseen("no position sees a later one", future)
  if any(FFNS[ffn].sees_later(model) for ffn in model.ffns):
    claim = "documents of a row compete where that is declared"
    yield does_see(claim, others)
  else:
    yield unseen("no position sees another document, or padding", others)
  own = seen[np.arange(T), np.arange(T)][segments[0] != 0]
  yield Check(
    "each position sees itself",
    bool((own > 0).all()),
    f"smallest gradient: {own.min():.1e}",
  )
  past = same & (s < t)
  with_past = past.any(1)
  sees = np.where(past, seen, 0).max(1)[with_past]
  yield Check(
    "each position sees its own document's past",
    bool((sees > 0).all()),
    f"smallest over {int(with_past.sum())} positions: {sees.min():.1e}",
  )
