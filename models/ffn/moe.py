"""Mixture of experts (Shazeer et al. 2017, arXiv:1701.06538)."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...errors import UserError
from ..context import Context
from ..linear import Projection
from ..penalty import measure
from ..routers import ROUTERS, Routing
from ..routers.balance import load, mean_over
from . import FFN, FFNS
from .dispatch import capacity_plan, sorted_plan


@dataclasses.dataclass(frozen=True)
class Options:
  n_experts: int = 8
  top_k: int = 2  # experts of a token
  expert_dim: int = 0  # F of each; 0: model.ff_dim
  expert: str = "glu"  # the network of each: an entry of model.ffn
  router: str = "softmax"
  # Experts that every token has besides (DeepSeekMoE, Dai et al. 2024,
  # arXiv:2401.06066): one network, so many times as wide.
  shared_experts: int = 0
  shared_gate: bool = False  # times a sigmoid of the token, as Qwen2's
  # In training, tokens of a row that an expert takes, times its even share;
  # who comes late is dropped. 0: none is, as always outside training.
  capacity_factor: float = 0.0

  def __post_init__(self):
    for key in ("n_experts", "top_k"):
      if getattr(self, key) < 1:
        raise UserError(f"{key}={getattr(self, key)} must be at least 1")
    for key in (
      "expert_dim",
      "shared_experts",
      "capacity_factor",
    ):
      if not 0 <= getattr(self, key) < math.inf:
        raise UserError(f"{key}={getattr(self, key)} must not be negative")
    if self.top_k > self.n_experts:
      raise UserError(
        f"top_k={self.top_k} is more than n_experts={self.n_experts}; lower it"
      )
    if self.shared_gate and not self.shared_experts:
      raise UserError(
        "shared_gate=True gates shared experts, and shared_experts=0; set it"
        " to 1 or more"
      )
    if self.expert == "moe":
      raise UserError("expert='moe' would never end; choose glu or mlp")

  def chooses(self) -> Iterator[tuple[Any, str]]:
    yield FFNS, self.expert
    yield ROUTERS, self.router


class MoE(FFN):
  """Each token's sum of the networks of its experts, times their weights."""

  expert = False

  @classmethod
  def check(cls, config):
    o = config.options("moe")
    if not FFNS[o.expert].expert:
      raise UserError(
        f"model.opts.moe.expert={o.expert!r} can't be an expert, which works"
        " on tokens by themselves; choose glu or mlp"
      )
    FFNS[o.expert].check(config)
    if getattr(config.options(o.expert), "bias", False):
      raise UserError(
        f"model.opts.{o.expert}.bias=True: the experts of model.ffn='moe' have"
        " no biases; set it to False"
      )
    ROUTERS[o.router].check(config)
    if config.use_bias:
      raise UserError(
        "model.use_bias=True: the experts of model.ffn='moe' have no biases;"
        " set it to False"
      )
    if config.matmul != "default":
      raise UserError(
        f"model.matmul={config.matmul!r} has no product for rows of many"
        " experts, as model.ffn='moe' needs; set it to default"
      )
    if config.mup_base:
      raise UserError(
        f"model.mup_base={config.mup_base}: muP has no rule for routers; set"
        " it to 0, or choose another model.ffn"
      )

  @classmethod
  def sees_later(cls, config):
    router = config.options("moe").router
    if ROUTERS[router].causal:
      return ""
    return f"model.opts.moe.router={router!r}"

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    c = self.config
    o = c.options("moe")
    E, (B, T, D) = o.n_experts, x_BTD.shape
    real_BT = jnp.ones((B, T), bool)
    if ctx.segment_ids_BT is not None:
      real_BT = ctx.segment_ids_BT != 0
    routing = ROUTERS[o.router](c, name="router")(x_BTD, ctx, real_BT)
    experts_BTk = jnp.where(real_BT[..., None], routing.experts_BTk, E)
    capacity = routing.capacity
    if ctx.training and o.capacity_factor and not capacity:
      capacity = math.ceil(o.capacity_factor * o.top_k * T / E)
    if capacity:
      plan = capacity_plan(experts_BTk, E, capacity)
    else:
      plan = sorted_plan(experts_BTk, E)
    dropped_BTk = (plan.slots_Nk == plan.token_S.size).reshape(B, T, -1)
    self.measures(routing, experts_BTk, dropped_BTk, real_BT)

    each = dataclasses.replace(c, ff_dim=o.expert_dim or c.ff_dim)
    x_SD = plan.spread(x_BTD.reshape(B * T, D))
    experts = FFNS[o.expert](each, E, name="experts")
    if capacity:
      y_SD = experts(x_SD.reshape(E, -1, D), ctx).reshape(-1, D)
    else:
      y_SD = experts(x_SD, ctx, plan.sizes_E)
    weights_Nk = routing.weights_BTk.reshape(B * T, -1)
    y_BTD = plan.gather(y_SD, weights_Nk).reshape(B, T, D)
    if o.shared_experts:
      wide = dataclasses.replace(c, ff_dim=o.shared_experts * each.ff_dim)
      shared_BTD = FFNS[o.expert](wide, name="shared")(x_BTD, ctx)
      if o.shared_gate:
        into = (c, "BTD,DG->BTG", (D, 1), ("embed", "latent"))
        gate_BT1 = Projection(*into, name="shared_gate")(x_BTD)
        shared_BTD *= jax.nn.sigmoid(gate_BT1)
      y_BTD += shared_BTD
    return y_BTD

  def measures(
    self,
    routing: Routing,
    experts_BTk: Array,
    dropped_BTk: Array,
    real_BT: Bool[Array, "B T"],
  ) -> None:
    """Load of each expert, entropy of the shares, share that was dropped."""
    E = self.config.options("moe").n_experts
    measure(self, "load", load(experts_BTk, real_BT, E))
    p_BTE = routing.scores_BTE
    entropy_BT = -(p_BTE * jnp.log(jnp.maximum(p_BTE, 1e-30))).sum(-1)
    measure(self, "entropy", mean_over(entropy_BT, real_BT))
    asked_BTk = experts_BTk < E
    lost_B = (dropped_BTk & asked_BTk).sum((1, 2))
    n_B = jnp.maximum(asked_BTk.sum((1, 2)), 1)
    measure(self, "dropped", lost_B / n_B)
