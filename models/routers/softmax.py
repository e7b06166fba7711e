"""Top-k of a softmax (Shazeer et al. 2017, arXiv:1701.06538)."""

import jax

from . import top_k

Options = top_k.Options


class Softmax(top_k.TopK):
  """p = softmax(W x); the k largest, each with its p.

  Renormalized, it is Mixtral's (Jiang et al. 2024, arXiv:2401.04088).
  """

  word = "softmax"

  def scores(self, logits_BTE):
    p_BTE = jax.nn.softmax(logits_BTE)
    return p_BTE, p_BTE
