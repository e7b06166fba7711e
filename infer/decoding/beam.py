"""Beam search with length penalty (Wu et al. 2016, arXiv:1609.08144).

Lowerre 1976 is the search; what ends it, and the length penalty, a power of
the number of tokens, are those of transformers' `generate`.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...models.config import ModelConfig
from ...models.param import Params
from ..filters import apply_filters
from ..rows import Rows, forward
from ..session import Block, Front, Session, batched
from ..settings import Sampling, check_types
from ..text import Completion, Growing, not_finite
from . import Decoder
from .top import top

EarlyStopping = Literal["no", "yes", "never"]


@dataclasses.dataclass(frozen=True)
class Options:
  """How wide the search is, and how it ends.

  Attributes:
    beams: continuations kept at each token.
    length_penalty: the score is the sum of the log-probabilities divided by
      the number of tokens to this power: above 0 favours long ones.
    early_stopping: when a search ends that has `beams` complete ones. yes: at
      once; no: when the best open one, were it complete now, is no better than
      the worst of them; never: when no open one can become better.
  """

  beams: int = 4
  length_penalty: float | int = 1.0
  early_stopping: EarlyStopping = "no"

  def __post_init__(self):
    check_types(self)
    if self.beams < 1:
      raise UserError(f"beams={self.beams} must be at least 1")
    # Beyond it a power of a length has no room in a float.
    if not -10 <= self.length_penalty <= 10:
      raise UserError(
        f"length_penalty={self.length_penalty} must be in [-10, 10]; 0 is none"
      )
    words = ("no", "yes", "never")
    if self.early_stopping not in words:
      raise UserError(
        f"early_stopping={self.early_stopping!r} is not one of"
        f" {', '.join(words)}"
      )


class Beam(Decoder):
  """The likeliest continuation, as far as a few open ones at a time find it."""

  draws = False

  def __init__(self, options: Options, sampling: Sampling):
    if sampling.n > options.beams:
      raise UserError(
        f"n={sampling.n} is more than beams={options.beams}; raise beams"
      )
    self._options = options
    self._n = sampling.n

  def decode(self, block: Block) -> list[list[Completion]]:
    groups = search(block, self._options, n_groups=1, diversity=0.0)
    return [self._best(completions) for (completions,) in groups]

  def _best(self, completions: list[Completion]) -> list[Completion]:
    if len(completions) < self._n:
      raise UserError(
        f"n={self._n}: the search found no more than {len(completions)} outputs"
        " that fit the constraint; lower n, or raise beams"
      )
    return completions[: self._n]


class Search:
  """The beams of one group of one prompt, on the host.

  Attributes:
    live: the open ones, the best first, or none; `scores` are theirs.
    parents: the beam that each of them continues.
    done: no open one can enter the complete ones any more.
  """

  def __init__(self, root: Growing, width: int, options: Options):
    self.live, self._last = [root] * width, root
    self.parents = np.zeros(width, np.int32)
    self.scores = np.full(width, -np.inf, np.float32)
    self.scores[0] = 0  # all are equal: the first token is chosen from one
    self.done = False
    self._complete: list[tuple[float, Growing]] = []
    self._width, self._options = width, options

  def advance(
    self,
    scores: np.ndarray,
    parents: np.ndarray,
    tokens: np.ndarray,
    logprobs: np.ndarray,
  ) -> None:
    """Takes the best 2 `width` continuations, in order.

    Raises:
      UserError: scores that are no numbers.
    """
    if np.isnan(scores).any():
      raise not_finite(len(self.live[0].tokens))
    width = self._width
    live: list[tuple[np.float32, int, Growing]] = []
    for rank in np.flatnonzero(np.isfinite(scores)):
      parent = int(parents[rank])
      row = self.live[parent].fork()
      row.push(int(tokens[rank]), float(logprobs[rank]))
      if not row.finish:
        live.append((scores[rank], parent, row))
      elif rank < width:
        # A worse one that ends is dropped: it has no place among the best.
        score = self._penalised(scores[rank], len(row.tokens))
        self._complete.append((score, row))
    # Stable: of equal ones the first that was complete.
    self._complete.sort(key=lambda complete: -complete[0])
    del self._complete[width:], live[width:]
    if live:
      # Where there are too few, copies that never win.
      live += [(np.float32(-np.inf), *live[0][1:])] * (width - len(live))
      self.scores = np.array([score for score, _, _ in live])
      self.parents = np.array([parent for _, parent, _ in live])
    self._last, self.live = self.live[0], [row for *_, row in live]
    self.done = not live or self._settled()

  def _settled(self) -> bool:
    """Whether the complete ones are full, and no open one can improve them."""
    if len(self._complete) < self._width:
      return False
    how, power = self._options.early_stopping, self._options.length_penalty
    if how == "yes":
      return True
    best = self.live[0]
    at_most = how == "never" and power > 0
    length = best.limit if at_most else len(best.tokens)
    return self._penalised(self.scores[0], length) <= self._complete[-1][0]

  def _penalised(self, score: np.float32, length: int) -> float:
    # float64: a power of a length may leave float32.
    return float(score) / float(length) ** float(self._options.length_penalty)

  def completions(self) -> list[Completion]:
    """The complete ones, the best first.

    Raises:
      UserError: a constraint that let none be completed.
    """
    if not self._complete:
      assert self._last.matcher, "a search without constraint finds something"
      raise self._last.matcher.dead_end()
    return [row.completion(score) for score, row in self._complete]


def search(
  block: Block, options: Options, n_groups: int, diversity: float
) -> list[list[list[Completion]]]:
  """Completions by prompt, group and rank.

  Args:
    n_groups: a divisor of `options.beams`; each group searches by itself.
    diversity: taken off a token's score for each beam of the groups before
      that takes the same token at the same step.
  """
  session, W = block.session, options.beams
  n_prompts, width = max(1, session.n_rows // W), W // n_groups
  found = []
  for owners in batched(range(len(block.indices)), n_prompts):
    front = block.start(np.repeat(owners, W).tolist(), n_prompts * W)
    searches = [
      [
        Search(row, width, options)
        for row in front.growing[i * W :: width][:n_groups]
      ]
      for i in range(len(owners))
    ]
    parents_IW = np.arange(front.rows.n_rows, dtype=np.int32).reshape(
      n_prompts, W
    )
    while not all(s.done for groups in searches for s in groups):
      parents_IW = _advance(session, front, searches, parents_IW, diversity)
    found += [[s.completions() for s in groups] for groups in searches]
  return found


def _advance(
  session: Session,
  front: Front,
  searches: list[list[Search]],
  parents_IW: np.ndarray,
  diversity: float,
) -> np.ndarray:
  """One token more for every search; returns what each beam continues."""
  n_prompts, W = parents_IW.shape
  n_groups = len(searches[0])
  width = W // n_groups
  scores_IGw = np.full((n_prompts, n_groups, width), -np.inf, np.float32)
  for i, groups in enumerate(searches):
    for g, s in enumerate(groups):
      if not s.done:
        scores_IGw[i, g] = s.scores
  open_ = [
    row
    for groups in searches
    for s in groups
    for row in ([None] * width if s.done else s.live)
  ]
  front.rows, chosen_BV, model_BV = _score(
    session.config,
    session.filters.words,
    session.params,
    front.rows,
    parents_IW.reshape(-1),
    front.tokens_X,
    front.positions_X,
    np.isfinite(scores_IGw).reshape(-1),
    session.allowed(open_, front.rows.n_rows, dead_ends=True),
    session.filters.values,
  )
  tokens_IGw = (
    front.tokens_X[: front.rows.n_rows].reshape(scores_IGw.shape).copy()
  )
  parents_IGw = np.arange(front.rows.n_rows, dtype=np.int32).reshape(
    tokens_IGw.shape
  )
  taken_IGw = np.full(tokens_IGw.shape, -1, np.int32)
  for g in range(n_groups):
    best = _candidates(
      chosen_BV,
      model_BV,
      scores_IGw[:, g],
      np.int32(g),
      taken_IGw.reshape(n_prompts, W),
      np.float32(diversity),
    )
    candidates = [np.asarray(a) for a in best]
    for i, groups in enumerate(searches):
      s = groups[g]
      if s.done:
        continue
      s.advance(*(a[i] for a in candidates))
      if s.live:
        tokens_IGw[i, g] = [row.tokens[-1] for row in s.live]
        real = np.isfinite(s.scores)
        taken_IGw[i, g] = np.where(real, tokens_IGw[i, g], -1)
        parents_IGw[i, g] = parents_IGw[i, g, 0] + s.parents
  front.move(tokens_IGw.reshape(-1))
  return parents_IGw.reshape(n_prompts, W)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _score(
  config: ModelConfig,
  words: tuple[str, ...],
  params: Params,
  rows: Rows,
  parents_B: Int[Array, " B"],
  tokens_X: Int[Array, " X"],
  positions_X: Int[Array, " X"],
  going_B: Bool[Array, " B"],
  allowed_BV: Bool[Array, "_ V"],
  values: dict[str, Array],
) -> tuple[Rows, Float[Array, "B V"], Float[Array, "B V"]]:
  """Consumes a token a beam.

  Returns:
    the rows, then the next tokens' log-probabilities with the filters, and
    without them.
  """
  rows = rows.select(config, parents_B)
  rows, seen, _ = forward(config, params, rows, tokens_X, positions_X, going_B)
  model_BV = jax.nn.log_softmax(seen.model_BV)
  # As transformers does: filters see log-probabilities, and what they leave
  # is not normalised again.
  seen = dataclasses.replace(seen, model_BV=model_BV)
  return rows, apply_filters(words, values, allowed_BV, seen), model_BV


@jax.jit
def _candidates(
  chosen_BV: Float[Array, "B V"],
  model_BV: Float[Array, "B V"],
  scores_Iw: Float[Array, "I w"],
  group: Int[Array, ""],
  taken_IW: Int[Array, "I W"],
  diversity: Float[Array, ""],
) -> tuple[Array, Array, Array, Array]:
  """The best 2 w continuations of one group's w beams, for each prompt.

  So many that w are left where w of them end.

  Args:
    taken_IW: the tokens of the groups before; -1 for none.

  Returns:
    scores, beams, tokens, and the model's log-probabilities of the tokens.
  """
  n_prompts, w = scores_Iw.shape
  V = chosen_BV.shape[-1]

  def of_group(a_BV):
    return jax.lax.dynamic_slice_in_dim(
      a_BV.reshape(n_prompts, -1, V), group * w, w, axis=1
    )

  penalty_IV = diversity * jax.nn.one_hot(taken_IW, V).sum(1)
  chosen_IwV = of_group(chosen_BV) - penalty_IV[:, None]
  total_IwV = scores_Iw[..., None] + chosen_IwV
  scores, places = top(total_IwV.reshape(n_prompts, w * V), min(2 * w, w * V))
  model = of_group(model_BV).reshape(n_prompts, w * V)
  return (
    scores,
    places // V,
    places % V,
    jnp.take_along_axis(model, places, axis=1),
  )
