"""ROUTERS: which experts of a mixture a token goes to, and with what weight.

A new one is one file here and one line below. What depends on other tokens,
as balanced choices do, depends on those of the same row alone: microbatches
and meshes do not change it.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...registry import Registry
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..param import declare, zeros
from .balance import Even


class Routing(NamedTuple):
  """Where the tokens of a chunk go.

  Attributes:
    experts_BTk: numbers of experts, each at most once a token; E: to none.
    weights_BTk: of what these experts give.
    scores_BTE: each token's shares of the experts, which add up to 1.
    capacity: tokens of a row that each expert takes; 0: it is not fixed.
  """

  experts_BTk: Int[Array, "B T k"]
  weights_BTk: Float[Array, "B T k"]
  scores_BTE: Float[Array, "B T E"]
  capacity: int = 0


class Router(nn.Module):
  """The contract: tokens in, a `Routing` out; all in fp32.

  Attributes:
    causal: no token's choice depends on a later one, outside training.
  """

  config: ModelConfig

  causal: ClassVar[bool] = True

  @classmethod
  def check(cls, config: ModelConfig) -> None:
    """Raises UserError where the model can't have this router."""
    del config

  def __call__(
    self,
    x_BTD: Float[Array, "B T D"],
    ctx: Context,
    real_BT: Bool[Array, "B T"],
  ) -> Routing:
    """Routes tokens, of which those that are not real go anywhere."""
    raise NotImplementedError(f"{type(self).__name__} must define __call__")

  @property
  def experts(self) -> Any:
    """The options of the mixture."""
    return self.config.options("moe")

  def logits(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
    # fp32: a rounded logit sends a token elsewhere (Fedus et al. 2021, 2.4).
    exact = dataclasses.replace(
      self.config, compute_dtype="float32", matmul="default"
    )
    shape = (self.config.d_model, self.experts.n_experts)
    axes = ("embed", "experts")
    project = Projection(exact, "BTD,DE->BTE", shape, axes, name="logits")
    return project(x_BTD.astype(jnp.float32))

  def bias(self, options: Even) -> Float[Array, " E"] | None:
    """What keeps the load even without a loss; None where nothing does."""
    if not options.bias_rate:
      return None
    E, axes = self.experts.n_experts, ("experts",)
    # fp32 whatever model.param_dtype is: its steps are far below bf16's.
    return declare(
      self, "bias", zeros, (E,), axes, "float32", step=options.bias_rate
    )


@dataclasses.dataclass(frozen=True)
class Groups(Even):
  """The options of routers that may choose groups of experts first."""

  renormalize: bool = True  # the weights of the chosen add up to 1
  scale: float = 1.0  # times the weights
  n_groups: int = 1  # groups of neighbours among the experts
  top_groups: int = 1  # a token's experts are all of so many groups

  def check(self, config: ModelConfig, entry: str) -> None:
    """Raises UserError where the groups do not fit the mixture."""
    o, key = config.options("moe"), f"model.opts.{entry}"
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


def top(
  scores_BTE: Float[Array, "B T E"],
  k: int,
  bias_E: Float[Array, " E"] | None = None,
  groups: Groups | None = None,
  best_of_group: int = 1,
) -> Int[Array, "B T k"]:
  """The best experts of each token.

  Loss-free balancing (Wang et al. 2024, arXiv:2408.15664) adds a bias to the
  scores for the choice alone. Group-limited routing takes experts of the best
  groups only, and a group is as good as its best experts together: one of them
  (DeepSeek-AI 2024, arXiv:2405.04434, section 2.2.2), or two
  (arXiv:2412.19437, section 2.1.2).
  """
  if bias_E is not None:
    scores_BTE = scores_BTE + jax.lax.stop_gradient(bias_E)
  if groups is not None and groups.n_groups > 1:
    B, T, E = scores_BTE.shape
    n_groups = groups.n_groups
    parts = scores_BTE.reshape(B, T, n_groups, E // n_groups)
    n_best = min(best_of_group, E // n_groups)
    of_group_BTg = jax.lax.top_k(parts, n_best)[0].sum(-1)
    best = jax.lax.top_k(of_group_BTg, groups.top_groups)[1]
    chosen_BTg = jax.nn.one_hot(best, n_groups, dtype=bool).any(2)
    parts = jnp.where(chosen_BTg[..., None], parts, -jnp.inf)
    scores_BTE = parts.reshape(B, T, E)
  return jax.lax.top_k(scores_BTE, k)[1]


def taken(
  scores_BTE: Float[Array, "B T E"], experts_BTk: Int[Array, "B T k"]
) -> Float[Array, "B T k"]:
  """The scores of the chosen experts."""
  return jnp.take_along_axis(scores_BTE, experts_BTk, axis=-1)


ROUTERS = Registry(
  "router",
  "model.opts.moe.router",
  __name__,
  {
    "softmax": "softmax:Softmax",
    "sigmoid": "sigmoid:Sigmoid",
    "switch": "switch:Switch",
    "expert_choice": "expert_choice:ExpertChoice",
    "hash": "hash:Hash",
    "sinkhorn": "sinkhorn:Sinkhorn",
  },
)
