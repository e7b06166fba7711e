"""Switch: one expert a token (Fedus et al. 2021, arXiv:2101.03961)."""

import dataclasses

import flax.linen as nn
import jax

from ...errors import UserError
from ..context import uniform
from . import Router, Routing
from .balance import Even, keep_even, keep_small
from .top_k import biased, taken


@dataclasses.dataclass(frozen=True)
class Options(Even):
  jitter: float = 0.0  # in training, inputs times 1 - jitter to 1 + jitter

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.jitter < 1:
      raise UserError(f"jitter={self.jitter} must be in [0, 1)")


class Switch(Router):
  """p = softmax(W x); the largest, with its p, by which it learns."""

  @classmethod
  def check(cls, config):
    if (k := config.options("moe").top_k) != 1:
      raise UserError(
        f"model.opts.moe.top_k={k}: model.opts.moe.router='switch' takes one"
        " expert; set it to 1, or choose softmax"
      )

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    o = self.config.options("switch", Options())
    if o.jitter and ctx.training:
      noise_BTD = 2 * uniform(x_BTD.shape[1:], ctx, site=3) - 1
      x_BTD = (x_BTD * (1 + o.jitter * noise_BTD)).astype(x_BTD.dtype)
    logits_BTE = self.logits(x_BTD)
    p_BTE = jax.nn.softmax(logits_BTE)
    bias_E = self.bias(o)
    experts_BTk = jax.lax.top_k(biased(p_BTE, bias_E), 1)[1]
    keep_small(self, o, logits_BTE, real_BT)
    keep_even(self, o, experts_BTk, p_BTE, bias_E, real_BT)
    return Routing(experts_BTk, taken(p_BTE, experts_BTk), p_BTE)
