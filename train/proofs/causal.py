"""Proof: no position sees the future, or another packed document."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import UserError
from ...models import lm
from ...models.state import sees_later
from ..config import Config
from ..setup import fit_vocab
from . import LEAK_TOLERANCE, Check


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
  seen = influence(
    model, params, *map(jnp.asarray, (tokens, segments, positions))
  )

  t, s = np.arange(T)[:, None], np.arange(T)[None, :]
  same = (segments[0][:, None] == segments[0][None, :]) & (segments[0] != 0)
  real = (segments[0] != 0)[:, None]

  def largest(where) -> float:
    return float(np.where(where, seen, 0).max())

  leak = LEAK_TOLERANCE * float(seen.max())
  causal = not sees_later(model)
  future = largest((s > t) & real)
  if causal:
    yield Check(
      "no position sees a later one",
      future <= leak,
      f"largest of {int(((s > t) & real).sum())} gradients: {future:.1e}"
      f" of {seen.max():.1e}",
    )
  else:
    yield Check(
      "a mixer declared not causal sees later positions",
      future > leak,
      f"largest gradient: {future:.1e}",
    )
  other = largest(~same & (s != t) & real)
  yield Check(
    "no position sees another document, or padding",
    other <= leak,
    f"largest of {int((~same & (s != t) & real).sum())} gradients: {other:.1e}",
  )
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
