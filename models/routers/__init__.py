"""ROUTERS: which experts of a mixture a token goes to, and with what weight.

A new one is one file here and one line below. What depends on other tokens,
as balanced choices do, depends on those of the same row alone: microbatches
and meshes do not change it.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
  def mixture(self) -> Any:
    """The options of the mixture."""
    return self.config.options("moe")

  def logits(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T E"]:
    # fp32: a rounded logit sends a token elsewhere (Fedus et al. 2021, 2.4).
    exact = dataclasses.replace(
      self.config, compute_dtype="float32", matmul="default"
    )
    shape = (self.config.d_model, self.mixture.n_experts)
    axes = ("embed", "experts")
    project = Projection(exact, "BTD,DE->BTE", shape, axes, name="logits")
    return project(x_BTD.astype(jnp.float32))

  def bias(self, options: Even) -> Float[Array, " E"] | None:
    """What keeps the load even without a loss; None where nothing does."""
    if not options.bias_rate:
      return None
    E, axes = self.mixture.n_experts, ("experts",)
    # fp32 whatever model.param_dtype is: its steps are far below bf16's.
    return declare(
      self, "bias", zeros, (E,), axes, "float32", step=options.bias_rate
    )


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
