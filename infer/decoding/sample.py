"""Ancestral sampling, and greedy decoding (Bengio et al. 2003).

p(x_1 ... x_T) = prod_t p(x_t | x_1 ... x_{t-1}): one draw a token.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from ...models.config import ModelConfig
from ...models.param import Params
from ...registry import NoOptions
from ..filters import apply_filters
from ..rows import Rows, forward
from ..session import Block, Front, batched
from ..settings import Sampling
from ..text import Completion, Growing
from . import Decoder

# Tokens of a row between two looks of the host, where nobody waits for them.
_STEPS = 16


class Sample(Decoder):
  """Draws each token from the filtered distribution of the model."""

  streams = True

  def __init__(self, options: NoOptions, sampling: Sampling):
    del options
    self._n = sampling.n

  def decode(self, block: Block) -> list[list[Completion]]:
    return draw(block, self._n, block.session.on_text)


def draw(
  block: Block, n: int, on_text: Callable[[int, str], None] | None = None
) -> list[list[Completion]]:
  """Draws `n` completions of each prompt.

  The key of a draw is (seed, prompt, number of the sample, position): what a
  prompt gives does not depend on the other prompts, nor on its place among
  them, and different prompts have independent draws.
  """
  session = block.session
  tasks = [(i, j) for i in range(len(block.indices)) for j in range(n)]
  done: list[Growing] = []
  for some in batched(tasks, session.n_rows):
    front = block.start([i for i, _ in some], session.n_rows)
    streams = [(block.digest(i), j) for i, j in some]
    streams_B2 = np.resize(np.array(streams, np.uint32), (session.n_rows, 2))
    names = [block.indices[i] * n + j for i, j in some]
    while front.going_B().any():
      _advance(block, front, streams_B2, names, on_text)
    done += front.growing
  return [[row.completion() for row in rows] for rows in batched(done, n)]


def _advance(
  block: Block,
  front: Front,
  streams_B2: np.ndarray,
  names: list[int],
  on_text: Callable[[int, str], None] | None,
) -> None:
  """Some tokens more for every row that is not finished."""
  session = block.session
  steps = 1 if on_text or session.matcher else _STEPS
  B = front.rows.n_rows
  left = [row.limit - len(row.tokens) for row in front.growing]
  left_B = np.array([*left, *[0] * (B - len(left))], np.int32)
  front.rows, tokens_BC, logprobs_BC = _draw(
    session.config,
    session.filters.words,
    session.params,
    front.rows,
    front.tokens_X,
    front.positions_X,
    front.going_B(),
    left_B,
    streams_B2,
    session.allowed(front.growing, B),
    session.ends_V,
    session.filters.values,
    np.uint32(session.sampling.seed),
    np.int32(steps),
  )
  tokens_BC, logprobs_BC = np.asarray(tokens_BC), np.asarray(logprobs_BC)
  for b, row in enumerate(front.growing):
    for c in range(steps):
      if row.finish:
        break
      text = row.push(int(tokens_BC[b, c]), float(logprobs_BC[b, c]))
      if on_text and text:
        on_text(names[b], text)
  front.move(tokens_BC[:, steps - 1], steps)


def next_tokens(
  seed: Array,
  streams_B2: UInt32[Array, "B 2"],
  positions_B: Int[Array, " B"],
  logits_BV: Float[Array, "B V"],
) -> Int[Array, " B"]:
  """Draws a token for each row, by the key (seed, stream, position)."""
  key = jax.random.key(seed)

  def one(stream_2, position, logits_V):
    own = key
    for word in (*stream_2, position):
      own = jax.random.fold_in(own, word)
    return jax.random.categorical(own, logits_V)

  return jax.vmap(one)(streams_B2, positions_B, logits_BV).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _draw(
  config: ModelConfig,
  words: tuple[str, ...],
  params: Params,
  rows: Rows,
  tokens_X: Int[Array, " X"],
  positions_X: Int[Array, " X"],
  going_B: Bool[Array, " B"],
  left_B: Int[Array, " B"],
  streams_B2: UInt32[Array, "B 2"],
  allowed_BV: Bool[Array, "_ V"],
  ends_V: Bool[Array, " V"],
  values: dict[str, Array],
  seed: Array,
  steps: Array,
) -> tuple[Rows, Int[Array, "B C"], Float[Array, "B C"]]:
  """Draws up to `steps` tokens a row, and stops where all rows have ended.

  Args:
    streams_B2: digest of the prompt, and number of the sample.
    left_B: tokens that a row may still have.
    ends_V: tokens that end a row.
    steps: at most _STEPS; traced, so that one program serves all.
  """
  B = going_B.shape[0]

  def go_on(carry: Any):
    c, *_, going_B, _, _ = carry
    return (c < steps) & going_B.any()

  def step(carry: Any):
    c, rows, tokens_X, going_B, tokens_BC, logprobs_BC = carry
    positions = positions_X + c
    rows, seen, _ = forward(config, params, rows, tokens_X, positions, going_B)
    logits_BV = apply_filters(words, values, allowed_BV, seen)
    next_B = next_tokens(seed, streams_B2, positions[:B] + 1, logits_BV)
    logprobs_BV = jax.nn.log_softmax(seen.model_BV)
    logprobs_B = jnp.take_along_axis(logprobs_BV, next_B[:, None], 1)[:, 0]
    tokens_BC = tokens_BC.at[:, c].set(next_B)
    logprobs_BC = logprobs_BC.at[:, c].set(logprobs_B)
    going_B = going_B & ~ends_V[next_B] & (c + 1 < left_B)
    tokens_X = jnp.tile(next_B, rows.halves)
    return c + 1, rows, tokens_X, going_B, tokens_BC, logprobs_BC

  tokens_BC = jnp.zeros((B, _STEPS), jnp.int32)
  logprobs_BC = jnp.zeros((B, _STEPS), jnp.float32)
  carry = (jnp.int32(0), rows, tokens_X, going_B, tokens_BC, logprobs_BC)
  _, rows, _, _, tokens_BC, logprobs_BC = jax.lax.while_loop(go_on, step, carry)
  return rows, tokens_BC, logprobs_BC
