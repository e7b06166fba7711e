"""What routers that take a token's best experts have in common."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError
from ..config import ModelConfig
from . import Router, Routing
from .balance import Even, keep_even, keep_small


@dataclasses.dataclass(frozen=True)
class Options(Even):
  renormalize: bool = True  # the weights of the chosen add up to 1
  scale: float = 1.0  # times the weights
  n_groups: int = 1  # groups of neighbours among the experts
  top_groups: int = 1  # a token's experts are all of so many groups

  def check(self, config: ModelConfig, entry: str) -> None:
    """Raises UserError where the groups do not fit the mixture."""
    o, key = config.options("moe"), f"model.opts.{entry}"
    if o.top_k == 1 and self.renormalize and o.n_experts > 1:
      raise UserError(
        f"{key}.renormalize=True makes the weight of a lone expert 1 whatever"
        " its score, so that no loss teaches the router; with"
        " model.opts.moe.top_k=1 set it to False, or choose"
        " model.opts.moe.router=switch"
      )
    if self.n_groups < 1 or o.n_experts % self.n_groups:
      raise UserError(
        f"{key}.n_groups={self.n_groups} does not divide"
        f" model.opts.moe.n_experts={o.n_experts}; use a divisor, or 1 for no"
        " groups"
      )
    if not 1 <= self.top_groups <= self.n_groups:
      raise UserError(
        f"{key}.top_groups={self.top_groups} must be from 1 to"
        f" {key}.n_groups={self.n_groups}"
      )
    room = self.top_groups * (o.n_experts // self.n_groups)
    if o.top_k > room:
      raise UserError(
        f"model.opts.moe.top_k={o.top_k} is more than the {room} experts of"
        f" {key}.top_groups={self.top_groups} groups; raise top_groups"
      )


class TopK(Router):
  """The k experts of the highest score, each with its score as its weight.

  Loss-free balancing (Wang et al. 2024, arXiv:2408.15664) adds a bias to the
  scores for the choice alone.
  """

  word: ClassVar[str]
  # How many of a group's experts together say how good it is.
  best_of_group: ClassVar[int] = 1

  @classmethod
  def check(cls, config):
    config.options(cls.word, Options()).check(config, cls.word)

  def scores(
    self, logits_BTE: Float[Array, "B T E"]
  ) -> tuple[Float[Array, "B T E"], Float[Array, "B T E"]]:
    """What is compared, and shares that add up to 1."""
    raise NotImplementedError

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    del ctx
    o = self.config.options(self.word, Options())
    logits_BTE = self.logits(x_BTD)
    scores_BTE, shares_BTE = self.scores(logits_BTE)
    bias_E = self.bias(o)
    choice_BTE = in_groups(biased(scores_BTE, bias_E), o, self.best_of_group)
    experts_BTk = jax.lax.top_k(choice_BTE, self.mixture.top_k)[1]
    keep_small(self, o, logits_BTE, real_BT)
    keep_even(self, o, experts_BTk, shares_BTE, bias_E, real_BT)
    weights_BTk = taken(scores_BTE, experts_BTk)
    if o.renormalize:
      # Sigmoids of a token that is far from every expert are 0.
      weights_BTk /= weights_BTk.sum(-1, keepdims=True) + 1e-20
    return Routing(experts_BTk, o.scale * weights_BTk, shares_BTE)


def biased(
  scores_BTE: Float[Array, "B T E"], bias_E: Float[Array, " E"] | None
) -> Float[Array, "B T E"]:
  """Scores to choose by; the choice has no gradient, nor has the bias."""
  if bias_E is None:
    return scores_BTE
  return scores_BTE + jax.lax.stop_gradient(bias_E)


def in_groups(
  scores_BTE: Float[Array, "B T E"], o: Options, best_of_group: int
) -> Float[Array, "B T E"]:
  """-inf outside a token's best groups of experts.

  A group is as good as its best experts together: one of them (DeepSeek-AI
  2024, arXiv:2405.04434, section 2.2.2), or two (arXiv:2412.19437, 2.1.2).
  """
  if o.n_groups == 1:
    return scores_BTE
  B, T, E = scores_BTE.shape
  parts = scores_BTE.reshape(B, T, o.n_groups, E // o.n_groups)
  n_best = min(best_of_group, E // o.n_groups)
  of_group_BTg = jax.lax.top_k(parts, n_best)[0].sum(-1)
  best = jax.lax.top_k(of_group_BTg, o.top_groups)[1]
  chosen_BTg = jax.nn.one_hot(best, o.n_groups, dtype=bool).any(2)
  parts = jnp.where(chosen_BTg[..., None], parts, -jnp.inf)
  return parts.reshape(B, T, E)


def taken(
  scores_BTE: Float[Array, "B T E"], experts_BTk: Int[Array, "B T k"]
) -> Float[Array, "B T k"]:
  """The scores of the chosen experts."""
  return jnp.take_along_axis(scores_BTE, experts_BTk, axis=-1)
