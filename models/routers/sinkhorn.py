"""Balanced assignment by Sinkhorn (Clark et al. 2022, arXiv:2202.01169)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from ...errors import UserError
from . import Router, Routing
from .balance import Small, keep_small
from .top_k import taken


@dataclasses.dataclass(frozen=True)
class Options(Small):
  iterations: int = 8  # in which all columns and all rows are evened out

  def __post_init__(self):
    super().__post_init__()
    if self.iterations < 1:
      raise UserError(f"iterations={self.iterations} must be at least 1")


class Sinkhorn(Router):
  """S-BASE: in training, the best experts of an evened-out plan of the row.

  The plan is that of optimal transport with an entropy, of tokens that go to
  experts which take as many each; it takes the place of the linear
  assignment of BASE layers (Lewis et al. 2021, arXiv:2103.16716). Outside
  training a token goes to its own best experts. The weights are sigmoids of
  the logits, as in BASE; the plan has no gradient.
  """

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    o = self.config.options("sinkhorn", Options())
    logits_BTE = self.logits(x_BTD)
    keep_small(self, o, logits_BTE, real_BT)
    offered_BTE = logits_BTE
    if ctx.training:
      offered_BTE = plan(logits_BTE, real_BT, o.iterations)
    experts_BTk = jax.lax.top_k(offered_BTE, self.mixture.top_k)[1]
    weights_BTk = taken(jax.nn.sigmoid(logits_BTE), experts_BTk)
    return Routing(experts_BTk, weights_BTk, jax.nn.softmax(logits_BTE))


def plan(logits_BTE, real_BT, iterations: int):
  """log of a plan whose rows add up to 1 and whose columns to T / E.

  In turn all columns and all rows are scaled, of real tokens alone.
  """
  log_BTE = jax.lax.stop_gradient(logits_BTE)
  real_BT1 = real_BT[..., None]

  def turn(log_BTE, _):
    seen_BTE = jnp.where(real_BT1, log_BTE, -jnp.inf)
    log_B1E = jax.nn.logsumexp(seen_BTE, axis=1, keepdims=True)
    # A row that is all padding has no columns to even out.
    log_BTE = log_BTE - jnp.where(jnp.isfinite(log_B1E), log_B1E, 0)
    return jax.nn.log_softmax(log_BTE), None

  return jax.lax.scan(turn, log_BTE, length=iterations)[0]
