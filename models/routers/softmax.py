"""Top-k of a softmax (Shazeer et al. 2017, arXiv:1701.06538)."""

import flax.linen as nn
import jax

from . import Groups, Router, Routing, taken, top
from .balance import keep_even, keep_small

Options = Groups


class Softmax(Router):
  """p = softmax(W x); the k largest, each with its p.

  Renormalized, it is Mixtral's (Jiang et al. 2024, arXiv:2401.04088).
  """

  @classmethod
  def check(cls, config):
    config.options("softmax", Options()).check(config, "softmax")

  @nn.compact
  def __call__(self, x_BTD, ctx, real_BT):
    del ctx
    o = self.config.options("softmax", Options())
    logits_BTE = self.logits(x_BTD)
    p_BTE = jax.nn.softmax(logits_BTE)
    bias_E = self.bias(o)
    experts_BTk = top(p_BTE, self.experts.top_k, bias_E, o)
    keep_small(self, o, logits_BTE, real_BT)
    keep_even(self, o, experts_BTk, p_BTE, bias_E, real_BT)
    weights_BTk = taken(p_BTE, experts_BTk)
    if o.renormalize:
      weights_BTk /= weights_BTk.sum(-1, keepdims=True)
    return Routing(experts_BTk, o.scale * weights_BTk, p_BTE)
