"""An even load of experts: by a loss, or by a bias; and small logits."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ..param import signed_step
from ..penalty import measure, penalize

# Over which tokens a load is even: those of each row, or of the microbatch.
BALANCED_OVER = ("row", "batch")


@dataclasses.dataclass(frozen=True)
class Small:
  """The option of every router that has logits."""

  # Factor of the loss logsumexp(logits)^2 (Zoph et al. 2022,
  # arXiv:2202.08906, section 3.2)
  z_loss: float = 0.0

  def __post_init__(self):
    for key, value in dataclasses.asdict(self).items():
      if isinstance(value, float) and not 0 <= value < math.inf:
        raise UserError(f"{key}={value} must not be negative")


@dataclasses.dataclass(frozen=True)
class Even(Small):
  """The options of a router that has to be kept from its favourites."""

  # Factor of the loss E * sum over experts of load * mean score, which is 1
  # where all are even (Fedus et al. 2021, arXiv:2101.03961, section 2.2)
  balance_loss: float = 0.01
  balance_over: str = "row"  # row | batch: of which tokens load and mean are
  # What an update adds to the bias of an expert that had too little (Wang et
  # al. 2024, arXiv:2408.15664); 0: there is no bias.
  bias_rate: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if self.balance_over not in BALANCED_OVER:
      raise UserError(
        f"balance_over={self.balance_over!r} is not one of"
        f" {', '.join(BALANCED_OVER)}"
      )


def keep_small(
  module: nn.Module,
  options: Small,
  logits_BTE: Float[Array, "B T E"],
  real_BT: Bool[Array, "B T"],
) -> None:
  """The z-loss of a router."""
  if options.z_loss:
    z_B = mean_over(jax.nn.logsumexp(logits_BTE, axis=-1) ** 2, real_BT)
    penalize(module, "z", options.z_loss * z_B)
    measure(module, "z", z_B)


def keep_even(
  module: nn.Module,
  options: Even,
  experts_BTk: Int[Array, "B T k"],
  scores_BTE: Float[Array, "B T E"],
  bias_E: Float[Array, " E"] | None,
  real_BT: Bool[Array, "B T"],
) -> None:
  """The load-balancing loss, and the step of the bias.

  Args:
    scores_BTE: each token's shares of the experts, which add up to 1.
    bias_E: declared with a `step`; None: there is none.
  """
  E = scores_BTE.shape[-1]
  load_BE = load(experts_BTk, real_BT, E)
  if bias_E is not None:
    penalize(module, "bias", signed_step(bias_E, load_BE - 1 / E))
  if not options.balance_loss:
    return
  mean_BE = mean_over(scores_BTE, real_BT)
  if options.balance_over == "batch":
    n_B1 = real_BT.sum(1, keepdims=True)
    weight_B1 = n_B1 / jnp.maximum(n_B1.sum(), 1)
    load_BE = jnp.broadcast_to((load_BE * weight_B1).sum(0), load_BE.shape)
    mean_BE = jnp.broadcast_to((mean_BE * weight_B1).sum(0), mean_BE.shape)
  even_B = E * (load_BE * mean_BE).sum(-1)
  penalize(module, "balance", options.balance_loss * even_B)
  measure(module, "balance", even_B)


def load(
  experts_BTk: Int[Array, "B T k"], real_BT: Bool[Array, "B T"], n_experts: int
) -> Float[Array, "B E"]:
  """The share of a row's choices that each expert has."""
  chosen_BTkE = jax.nn.one_hot(experts_BTk, n_experts)
  count_BE = (chosen_BTkE * real_BT[..., None, None]).sum((1, 2))
  return count_BE / jnp.maximum(count_BE.sum(-1, keepdims=True), 1)


def mean_over(
  a_BT: Float[Array, "B T ..."], real_BT: Bool[Array, "B T"]
) -> Float[Array, "B ..."]:
  """The mean over a row's real tokens."""
  real = real_BT.reshape(*real_BT.shape, *(1,) * (a_BT.ndim - 2))
  return jnp.where(real, a_BT, 0).sum(1) / jnp.maximum(real.sum(1), 1)
