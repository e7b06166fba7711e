"""Top-k of sigmoids (DeepSeek-AI 2024, arXiv:2412.19437)."""

import flax.linen as nn
import jax

from . import Groups, Router, Routing, taken, top
from .balance import keep_even, keep_small

Options = Groups


class Sigmoid(Router):
  """s = sigmoid(W x); the k largest of s, or of s + bias, each with its s."""

  @classmethod
  def check(cls, config):
    config.options("sigmoid", Options()).check(config, "sigmoid")

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    del ctx
    o = self.config.options("sigmoid", Options())
    logits_BTE = self.logits(x_BTD)
    s_BTE = jax.nn.sigmoid(logits_BTE)
    # Far from every expert all are 0, in fp32 too.
    shares_BTE = s_BTE / (s_BTE.sum(-1, keepdims=True) + 1e-20)
    bias_E = self.bias(o)
    experts_BTk = top(s_BTE, self.experts.top_k, bias_E, o, best_of_group=2)
    keep_small(self, o, logits_BTE, real_BT)
    keep_even(self, o, experts_BTk, shares_BTE, bias_E, real_BT)
    weights_BTk = taken(s_BTE, experts_BTk)
    if o.renormalize:
      weights_BTk /= weights_BTk.sum(-1, keepdims=True) + 1e-20
    return Routing(experts_BTk, o.scale * weights_BTk, shares_BTE)
