"""Naive-Bayes context extension (Su 2023, https://spaces.ac.cn/archives/9617).

Each of several contexts is read by itself, before the prompt, so that together
they may be longer than the model's own context. If they were independent given
the text, its probability would be, of every token,

  log p(v) = (1 + beta) log p(v | context k) - beta log p(v | none)

up to a constant, where the source takes for k the context whose distribution
has the least entropy.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from ...errors import UserError
from ...models.config import ModelConfig
from ...models.param import Params
from ..filters import Seen, apply_filters
from ..rows import Rows, forward
from ..session import Block, Session, encode
from ..settings import Sampling, check_types
from ..text import Completion, Growing
from . import Decoder
from .sample import next_tokens

# Less likely without a context than this, in nats, a token's share of the
# difference is noise: there the context's own probability stands.
_LEAST = -100.0


@dataclasses.dataclass(frozen=True)
class Options:
  """What is read, and how it is weighed.

  Attributes:
    contexts: texts, each put before the prompt.
    beta: weight of the contexts against the prompt alone; 0: of the best one.
    eta: nats of entropy by which another context must be better than the last
      one chosen, so that a text does not jump between them.
  """

  contexts: tuple[str, ...] = ()
  beta: float | int = 0.25
  eta: float | int = 0.1

  def __post_init__(self):
    check_types(self)
    if self.beta < 0 or self.eta < 0:
      raise UserError(
        f"beta={self.beta} and eta={self.eta} must be 0 or positive"
      )


class NBCE(Decoder):
  """Draws from the pooled distribution of all contexts."""

  def __init__(self, options: Options, sampling: Sampling):
    if not options.contexts:
      raise UserError(
        "contexts=() gives decoding=nbce nothing to read; name a text for each"
        " context, or use decoding=sample"
      )
    if sampling.guidance_scale != 1:
      raise UserError(
        f"guidance_scale={sampling.guidance_scale}: decoding=nbce weighs"
        " against the prompt alone already, by beta; leave guidance_scale at 1"
      )
    self._options, self._n = options, sampling.n

  def decode(self, block: Block) -> list[list[Completion]]:
    of, texts = block.session, self._options.contexts
    contexts = [
      encode(of.config, of.tokenizer, text, "context") for text in texts
    ]
    session = Session(
      of.config, of.params, of.tokenizer, of.sampling, True, len(texts) + 1
    )
    found = []
    for i in range(len(block.indices)):
      prompt = block.ids(i)
      # BOS stands before the context alone.
      bare = prompt[1:] if prompt[0] == of.tokenizer.bos_id else prompt
      rows = [prompt]
      for ids in contexts:
        both = [*ids, *bare]
        rows.append(encode(of.config, of.tokenizer, both, "context and prompt"))
      own = session.block(rows)
      found.append(
        [self._continue(own, block.digest(i), j) for j in range(self._n)]
      )
    return found

  def _continue(self, block: Block, digest: int, j: int) -> Completion:
    session, o = block.session, self._options
    B = session.n_rows
    front = block.start(list(range(B)), B)
    # All rows go on with one text, as far as the longest prompt has room.
    growing: Growing = min(front.growing, key=lambda row: row.limit)
    rows, last = front.rows, np.int32(-1)
    stream_2 = np.array((digest, j), np.uint32)
    while not growing.finish:
      rows, last, token, logprob = _step(
        session.config,
        session.filters.words,
        session.params,
        rows,
        front.tokens_X,
        front.positions_X,
        last,
        stream_2,
        session.allowed([growing], 1),
        session.filters.values,
        np.uint32(session.sampling.seed),
        np.float32(o.beta),
        np.float32(o.eta),
      )
      growing.push(int(token), float(logprob))
      front.move(np.full(B, int(token), np.int32))
    return growing.completion()


def pooled(
  logits_BV: Float[Array, "B V"],
  last: Int[Array, ""],
  beta: Float[Array, ""],
  eta: Float[Array, ""],
) -> tuple[Float[Array, " V"], Int[Array, ""]]:
  """Log-probabilities up to a constant, and which context they are of.

  Args:
    logits_BV: after the prompt alone, then after each context and the prompt.
    last: the context chosen before; -1: none.
  """
  logp_BV = jax.nn.log_softmax(logits_BV.astype(jnp.float32))
  alone_V, of_context_CV = logp_BV[0], logp_BV[1:]
  entropy_C = -(jnp.exp(of_context_CV) * of_context_CV).sum(-1)
  k = (entropy_C - eta * (jnp.arange(len(entropy_C)) == last)).argmin()
  best_V = of_context_CV[k]
  merged_V = (1 + beta) * best_V - beta * alone_V
  return jnp.where(alone_V > _LEAST, merged_V, best_V), k.astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _step(
  config: ModelConfig,
  words: tuple[str, ...],
  params: Params,
  rows: Rows,
  tokens_X: Int[Array, " X"],
  positions_X: Int[Array, " X"],
  last: Int[Array, ""],
  stream_2: UInt32[Array, "2"],
  allowed_1V: Bool[Array, "1 V"],
  values: dict[str, Array],
  seed: Array,
  beta: Float[Array, ""],
  eta: Float[Array, ""],
) -> tuple[Rows, Int[Array, ""], Int[Array, ""], Float[Array, ""]]:
  """One token more: the rows, the context chosen, the token and its log p."""
  going_B = jnp.ones(rows.n_rows, bool)
  rows, seen, _ = forward(config, params, rows, tokens_X, positions_X, going_B)
  merged_V, k = pooled(seen.model_BV, last, beta, eta)
  first: Seen = jax.tree.map(lambda a: a[:1], seen)
  first = dataclasses.replace(first, model_BV=merged_V[None])
  logits_1V = apply_filters(words, values, allowed_1V, first)
  at_1 = positions_X[:1] + 1
  (token,) = next_tokens(seed, stream_2[None], at_1, logits_1V)
  return rows, k, token, jax.nn.log_softmax(merged_V)[token]
