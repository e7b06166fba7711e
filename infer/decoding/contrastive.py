"""Contrastive search (Su et al. 2022, arXiv:2202.06417)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...models.config import ModelConfig
from ...models.param import Params
from ..filters import Seen, apply_filters
from ..rows import Rows, forward
from ..session import Block, batched
from ..settings import Sampling, check_types
from ..text import Completion, Growing
from . import Decoder
from .top import top


@dataclasses.dataclass(frozen=True)
class Options:
  """How many candidates, and how much they shall differ from the context.

  Attributes:
    candidates: likeliest tokens that are looked at.
    alpha: weight of the degeneration penalty, in [0, 1]; 0: greedy.
  """

  candidates: int = 5
  alpha: float | int = 0.6

  def __post_init__(self):
    check_types(self)
    if self.candidates < 1:
      raise UserError(f"candidates={self.candidates} must be at least 1")
    if not 0 <= self.alpha <= 1:
      raise UserError(f"alpha={self.alpha} must be in [0, 1]")


class Contrastive(Decoder):
  """argmax over the k likeliest v of equation 5:

  (1 - alpha) p(v | x) - alpha max_j cos(h_v, h_j), where h_v is the last hidden
  vector of the candidate, and h_j are those of the context.
  """

  draws = False

  def __init__(self, options: Options, sampling: Sampling):
    if sampling.n > 1:
      raise UserError(
        f"n={sampling.n}: decoding=contrastive draws nothing, so all would be"
        " one; use n=1"
      )
    self._options = options

  def decode(self, block: Block) -> list[list[Completion]]:
    session, k = block.session, self._options.candidates
    done: list[Growing] = []
    # A prompt has k rows, all of them alike between two steps.
    n_prompts = max(1, session.n_rows // k)
    for owners in batched(range(len(block.indices)), n_prompts):
      done += self._continue(block, list(owners), n_prompts)
    return [[row.completion()] for row in done]

  def _continue(
    self, block: Block, owners: list[int], n_prompts: int
  ) -> list[Growing]:
    session, k = block.session, self._options.candidates
    front = block.start(np.repeat(owners, k).tolist(), n_prompts * k)
    growing = front.growing[::k]
    firsts = [*owners, *[owners[0]] * (n_prompts - len(owners))]
    T, n_slots = block.mask_XT.shape[1], block.n_slots
    context_ISD = jnp.zeros((n_prompts, n_slots, block.hidden_XTD.shape[-1]))
    context_ISD = context_ISD.at[:, :T].set(block.hidden_XTD[jnp.array(firsts)])
    mask_IS = np.zeros((n_prompts, n_slots), bool)
    mask_IS[:, :T] = block.mask_XT[firsts]
    going_I = np.array(
      [True] * len(owners) + [False] * (n_prompts - len(owners))
    )
    rows, seen, hidden_BD = _first(
      session.config,
      session.params,
      front.rows,
      front.tokens_X,
      front.positions_X,
      np.repeat(going_I, k),
    )
    context_ISD = context_ISD.at[:, T].set(hidden_BD[::k])
    for slot in range(T, n_slots - 1):
      mask_IS[:, slot] = True
      front.positions_X = front.positions_X + np.int32(1)
      rows, seen, context_ISD, *chosen = _step(
        session.config,
        session.filters.words,
        k,
        session.params,
        rows,
        seen,
        context_ISD,
        mask_IS,
        np.int32(slot + 1),
        front.positions_X,
        np.repeat(going_I, k),
        session.allowed(growing, n_prompts),
        session.filters.values,
        np.float32(self._options.alpha),
      )
      tokens_I, logprobs_I = map(np.asarray, chosen)
      for i, row in enumerate(growing):
        if not row.finish:
          row.push(int(tokens_I[i]), float(logprobs_I[i]))
          going_I[i] = not row.finish
      if not going_I.any():
        break
    return growing


_first = jax.jit(forward, static_argnums=0, donate_argnums=2)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(4, 5, 6))
def _step(
  config: ModelConfig,
  words: tuple[str, ...],
  k: int,
  params: Params,
  rows: Rows,
  seen: Seen,
  context_ISD: Float[Array, "I S D"],
  mask_IS: Bool[Array, "I S"],
  slot: Int[Array, ""],
  positions_X: Int[Array, " X"],
  going_B: Bool[Array, " B"],
  allowed_IV: Bool[Array, "_ V"],
  values: dict[str, Array],
  alpha: Float[Array, ""],
) -> tuple[
  Rows, Seen, Float[Array, "I S D"], Int[Array, " I"], Float[Array, " I"]
]:
  """Looks at k candidates a prompt, and takes one.

  Args:
    seen: of the next token, from rows that are alike in each prompt.
    context_ISD: hidden vectors so far, and where the next one goes.

  Returns:
    the rows, alike again, and what `seen` and `context_ISD` are after the
    token; then the token, and its log-probability by the model.
  """
  of_prompt = jax.tree.map(lambda a: a[::k], seen)
  logits_IV = apply_filters(words, values, allowed_IV, of_prompt)
  p_Ik, tokens_Ik = top(jax.nn.softmax(logits_IV), k)
  tokens_X = jnp.tile(tokens_Ik.reshape(-1), rows.halves)
  rows, seen, hidden_BD = forward(
    config, params, rows, tokens_X, positions_X, going_B
  )
  hidden_IkD = hidden_BD.astype(jnp.float32).reshape(*p_Ik.shape, -1)
  cosine_IkS = jnp.einsum("IkD,ISD->IkS", _unit(hidden_IkD), _unit(context_ISD))
  nearest_Ik = jnp.where(mask_IS[:, None], cosine_IkS, -1).max(-1)
  score_Ik = (1 - alpha) * p_Ik - alpha * nearest_Ik
  # A token that is not allowed is no candidate, however new it is.
  best_I1 = jnp.where(p_Ik > 0, score_Ik, -jnp.inf).argmax(-1, keepdims=True)
  tokens_I = jnp.take_along_axis(tokens_Ik, best_I1, 1)[:, 0]
  logprobs_IV = jax.nn.log_softmax(of_prompt.model_BV)
  logprobs_I = jnp.take_along_axis(logprobs_IV, tokens_I[:, None], 1)[:, 0]

  chosen_I1 = jnp.arange(len(best_I1))[:, None] * k + best_I1
  parents_B = jnp.repeat(chosen_I1[:, 0], k)
  rows = rows.select(config, parents_B)
  seen = jax.tree.map(lambda a: a[parents_B], seen)
  context_ISD = context_ISD.at[:, slot].set(
    hidden_BD[chosen_I1[:, 0]].astype(jnp.float32)
  )
  return rows, seen, context_ISD, tokens_I, logprobs_I


def _unit(x: Float[Array, "*dims D"]) -> Float[Array, "*dims D"]:
  norm = jnp.linalg.norm(x, axis=-1, keepdims=True)
  return x / jnp.maximum(norm, 1e-12)
