"""From tokens to the slots of their experts, and back.

A slot is one row of what the experts compute. Both ways are gathers, and so
are their gradients: a scatter's sum would depend on the order of its terms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Plan(NamedTuple):
  """Which slots the tokens of a chunk have.

  Attributes:
    token_S: of each slot, as b T + t; B T: it is empty.
    slots_Nk: of each of the N = B T tokens; S: none.
    sizes_E: slots of each expert, which stand in the order of the experts.
  """

  token_S: Int[Array, " S"]
  slots_Nk: Int[Array, "N k"]
  sizes_E: Int[Array, " E"]

  def spread(self, x_ND: Float[Array, "N D"]) -> Float[Array, "S D"]:
    """The token of each slot; 0 where it is empty."""
    return _spread(x_ND, self.token_S, self.slots_Nk)

  def gather(
    self, y_SD: Float[Array, "S D"], weights_Nk: Float[Array, "N k"]
  ) -> Float[Array, "N D"]:
    """Of each token, the sum of its slots, each times its weight."""
    weights_S = jnp.zeros(self.token_S.shape, weights_Nk.dtype)
    weights_S = weights_S.at[self.slots_Nk].set(weights_Nk, mode="drop")
    y_SD = (weights_S[:, None] * y_SD).astype(y_SD.dtype)
    return _gather(y_SD, self.token_S, self.slots_Nk)


def sorted_plan(experts_BTk: Int[Array, "B T k"], n_experts: int) -> Plan:
  """A slot for each choice, in the order of the experts: nothing is dropped.

  Dropless, as MegaBlocks (Gale et al. 2022, arXiv:2211.15841).
  """
  B, T, k = experts_BTk.shape
  experts_S = experts_BTk.reshape(-1)
  order_S = jnp.argsort(experts_S, stable=True)
  slots_S = jnp.zeros_like(order_S).at[order_S].set(jnp.arange(order_S.size))
  return Plan(
    order_S // k,
    slots_S.reshape(B * T, k),
    jnp.bincount(experts_S, length=n_experts),
  )


def capacity_plan(
  experts_BTk: Int[Array, "B T k"], n_experts: int, capacity: int
) -> Plan:
  """`capacity` slots of each row for each expert; who comes late has none.

  First come, first served, along the row: no later token takes a slot from an
  earlier one. (GShard serves all first choices before any second one.)
  """
  B, T, _ = experts_BTk.shape
  E, C, N = n_experts, capacity, B * T
  chosen_BTE = jax.nn.one_hot(experts_BTk, E, dtype=jnp.int32).sum(2)
  before_BTE = jnp.cumsum(chosen_BTE, axis=1) - chosen_BTE
  known_BTk = jnp.minimum(experts_BTk, E - 1)
  place_BTk = jnp.take_along_axis(before_BTE, known_BTk, axis=-1)
  slots_BTk = (known_BTk * B + jnp.arange(B)[:, None, None]) * C + place_BTk
  has_BTk = (experts_BTk < E) & (place_BTk < C)
  slots_Nk = jnp.where(has_BTk, slots_BTk, E * B * C).reshape(N, -1)
  token_S = jnp.full((E * B * C,), N)
  token_S = token_S.at[slots_Nk].set(jnp.arange(N)[:, None], mode="drop")
  return Plan(token_S, slots_Nk, jnp.full((E,), B * C))


@jax.custom_vjp
def _spread(x_ND, token_S, slots_Nk):
  del slots_Nk
  return x_ND.at[token_S].get(mode="fill", fill_value=0)


@jax.custom_vjp
def _gather(y_SD, token_S, slots_Nk):
  del token_S
  N, k = slots_Nk.shape

  def add(x_ND, slots_N):
    mine_ND = y_SD.at[slots_N].get(mode="fill", fill_value=0)
    return x_ND + mine_ND, None

  # One after another: at once they were k arrays of the size of the tokens.
  # fp32: a bf16 sum of eight experts loses the smallest.
  x_ND = jnp.zeros((N, y_SD.shape[1]), jnp.float32)
  x_ND, _ = jax.lax.scan(add, x_ND, slots_Nk.T, unroll=min(k, 8))
  return x_ND.astype(y_SD.dtype)


def _no_gradient(plan):
  return [np.zeros(a.shape, jax.dtypes.float0) for a in plan]


_spread.defvjp(
  lambda *a: (_spread(*a), a[1:]),
  lambda plan, dy_SD: (_gather(dy_SD, *plan), *_no_gradient(plan)),
)
_gather.defvjp(
  lambda *a: (_gather(*a), a[1:]),
  lambda plan, dx_ND: (_spread(dx_ND, *plan), *_no_gradient(plan)),
)
