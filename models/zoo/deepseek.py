"""DeepSeek V2 and V3: latent attention, many small experts.

Shapes are those of the Hugging Face configs that the comments name. V3's layer
that predicts a second token is no part of the decoder, and not counted.
"""

import math
from collections.abc import Mapping
from typing import Any

from .shape import shape

# Trained at 4,096 tokens, then stretched 40 times. YaRN's factor of the turned
# part is 1 here: its square goes to all scores.
STRETCH = 40.0
YARN = {
  "yarn.factor": STRETCH,
  "yarn.original_len": 4096,
  "yarn.attention_factor": 1.0,
  "yarn.pairing": "interleaved",
}


def deepseek(
  D: int,
  L: int,
  N: int,
  F: int,
  V: int,
  *,
  n_dense: int,
  q_rank: int,
  mscale: float,
  opts: Mapping[str, Any],
) -> Mapping[str, Any]:
  """The first `n_dense` layers have a network of F in place of experts."""
  head_dim, rope_dim = 128, 64
  sharper = (0.1 * mscale * math.log(STRETCH) + 1) ** 2
  mla = {
    "mla.kv_rank": 512,
    "mla.q_rank": q_rank,
    "mla.rope_dim": rope_dim,
    "mla.scale": sharper * (head_dim + rope_dim) ** -0.5,
  }
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    head_dim=head_dim,
    ff_dim=F,
    vocab_size=V,
    max_len=163840,
    first=("mla/glu",) * n_dense,
    pattern=("mla/moe",),
    position="yarn",
    norm_eps=1e-6,
    opts=YARN | mla | dict(opts),
  )


SHAPES = {
  # DeepSeek-AI 2024, arXiv:2405.04434; deepseek-ai/DeepSeek-V2, -V2-Lite
  "deepseek_v2": deepseek(
    *(5120, 60, 128, 12288, 102400),
    n_dense=1,
    q_rank=1536,
    mscale=0.707,
    opts={
      "moe.n_experts": 160,
      "moe.top_k": 6,
      "moe.expert_dim": 1536,
      "moe.shared_experts": 2,
      "softmax.renormalize": False,
      "softmax.scale": 16.0,
      "softmax.n_groups": 8,
      "softmax.top_groups": 3,
    },
  ),
  "deepseek_v2_lite": deepseek(
    *(2048, 27, 16, 10944, 102400),
    n_dense=1,
    q_rank=0,
    mscale=0.707,
    opts={
      "moe.n_experts": 64,
      "moe.top_k": 6,
      "moe.expert_dim": 1408,
      "moe.shared_experts": 2,
      "softmax.renormalize": False,
    },
  ),
  # DeepSeek-AI 2024, arXiv:2412.19437; deepseek-ai/DeepSeek-V3-Base
  "deepseek_v3": deepseek(
    *(7168, 61, 128, 18432, 129280),
    n_dense=3,
    q_rank=1536,
    mscale=1.0,
    opts={
      "moe.n_experts": 256,
      "moe.top_k": 8,
      "moe.expert_dim": 2048,
      "moe.shared_experts": 1,
      "moe.router": "sigmoid",
      "sigmoid.renormalize": True,
      "sigmoid.scale": 2.5,
      "sigmoid.n_groups": 8,
      "sigmoid.top_groups": 4,
      # Section 4.2's: with a rate each expert has a number for its bias.
      "sigmoid.bias_rate": 0.001,
      "sigmoid.balance_loss": 0.0001,
    },
  ),
}
