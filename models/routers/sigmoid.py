"""Top-k of sigmoids (DeepSeek-AI 2024, arXiv:2412.19437)."""

import jax

from . import top_k

Options = top_k.Options


class Sigmoid(top_k.TopK):
  """s = sigmoid(W x); the k largest, each with its s."""

  word = "sigmoid"
  best_of_group = 2

  def scores(self, logits_BTE):
    s_BTE = jax.nn.sigmoid(logits_BTE)
    # Far from every expert all are 0, in fp32 too.
    return s_BTE, s_BTE / (s_BTE.sum(-1, keepdims=True) + 1e-20)
