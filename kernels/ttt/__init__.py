"""A model that is trained on what it reads: the inner loop of TTT-Linear.

In each head it is f_W(x) = LN(x W), the loss of a token |f_W(k) - v|^2 / 2. The
tokens of a document are taken in mini-batches of Q, and the gradients of one
are all taken at U, the weights that it began with: with s of the mini-batch,

    G_t = sum_{s <= t} rate_s dloss_s / dW (U)
    W_t = U - share_t G_t,    o_t = f_{W_t}(q_t)

and the next mini-batch begins with the last W (Sun et al. 2024,
arXiv:2407.04620; section 2.4). The half is that of the authors' code; the paper
writes none.

    o_BTNV, state = ttt(
      q_BTNK, k_BTNK, v_BTNV, rate_BTN, place_BT, starts_BT, learner, state
    )

    place_BT: of a token in its mini-batch, from 0 to Q - 1; a document begins
      at 0.
    starts_BT: where a document begins: with the learner's own weights.
    state: before the first token and after the last; of zeros where there is
      nothing before.

A bias is the weight of an input that is always 1. Everything is computed in
fp32. Choose through `kernels.dispatch`.
"""

from typing import NamedTuple

from jaxtyping import Array, Float

EPS = 1e-6  # under the root of the norm, as in the authors' code


class Learner(NamedTuple):
  """What is learnt in training, and the same for all documents.

  Attributes:
    weights_NKV: with which a document begins.
    scale_NV, bias_NV: of the norm.
    share_Q: by place, what a token has of the gradients so far; of the last
      place it is also what stays.
  """

  weights_NKV: Float[Array, "N K V"]
  scale_NV: Float[Array, "N V"]
  bias_NV: Float[Array, "N V"]
  share_Q: Float[Array, " Q"]


class State(NamedTuple):
  """Between two tokens.

  Attributes:
    moved_BNKV: U, less the weights with which documents begin.
    sum_BNKV: G of the mini-batch so far.
  """

  moved_BNKV: Float[Array, "B N K V"]
  sum_BNKV: Float[Array, "B N K V"]
