"""Qwen: Llama's line, with biases of q, k and v, or with their norms.

Shapes are those of the Hugging Face configs that the comments name.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape


def qwen(
  D: int, L: int, N: int, F: int, V: int, K: int = 0, **more: Any
) -> Mapping[str, Any]:
  sizes = {"d_model": D, "n_layers": L, "n_heads": N, "n_kv_heads": K}
  usual = {"norm_eps": 1e-6, "max_len": 32768}
  opts = {"rope.rope_theta": 1e6} | more.pop("opts", {})
  return shape(ff_dim=F, vocab_size=V, opts=opts, **sizes | usual | more)


def biased(
  D: int, L: int, N: int, F: int, V: int, K: int = 0, **more: Any
) -> Mapping[str, Any]:
  opts = {"attention.qkv_bias": True} | more.pop("opts", {})
  return qwen(D, L, N, F, V, K, opts=opts, **more)


def mixture(
  n_experts: int, top_k: int, renormalize: bool, shared_experts: int = 0
) -> dict[str, Any]:
  """Options of a mixture; the width of an expert is model.ff_dim."""
  return {
    "moe.n_experts": n_experts,
    "moe.top_k": top_k,
    "moe.shared_experts": shared_experts,
    "moe.shared_gate": shared_experts > 0,
    "softmax.renormalize": renormalize,
  }


def qwen3(
  D: int, L: int, N: int, F: int, K: int = 8, **more: Any
) -> Mapping[str, Any]:
  opts = {"attention.qk_norm": "rms_norm"} | more.pop("opts", {})
  return qwen(D, L, N, F, 151936, K, head_dim=128, opts=opts, **more)


SHAPES = {
  # Bai et al. 2023, arXiv:2309.16609; Qwen/Qwen-7B. It stretches RoPE, and
  # scales queries by log n, beyond these 8,192 tokens.
  "qwen_7b": biased(
    *(4096, 32, 32, 11008, 151936),
    max_len=8192,
    opts={"rope.rope_theta": 1e4},
  ),
  # Qwen 2024; Qwen/Qwen1.5-0.5B ... -72B, Qwen1.5-MoE-A2.7B
  "qwen1_5_0_5b": biased(1024, 24, 16, 2816, 151936, tie_embeddings=True),
  "qwen1_5_1_8b": biased(2048, 24, 16, 5504, 151936),
  "qwen1_5_7b": biased(4096, 32, 32, 11008, 151936),
  "qwen1_5_72b": biased(8192, 80, 64, 24576, 152064),
  "qwen1_5_moe_a2_7b": biased(
    *(2048, 24, 16, 1408, 151936),
    ffn="moe",
    max_len=8192,
    opts=mixture(60, 4, False, 4),
  ),
  # Yang et al. 2024, arXiv:2407.10671; Qwen/Qwen2-0.5B ... -72B, -57B-A14B
  "qwen2_0_5b": biased(
    *(896, 24, 14, 4864, 151936, 2), tie_embeddings=True, max_len=131072
  ),
  "qwen2_1_5b": biased(
    *(1536, 28, 12, 8960, 151936, 2), tie_embeddings=True, max_len=131072
  ),
  "qwen2_7b": biased(3584, 28, 28, 18944, 152064, 4, max_len=131072),
  "qwen2_72b": biased(8192, 80, 64, 29568, 152064, 8, max_len=131072),
  "qwen2_57b_a14b": biased(
    *(3584, 28, 28, 2560, 151936, 4),
    ffn="moe",
    max_len=131072,
    opts=mixture(64, 8, False, 8),
  ),
  # Yang et al. 2025, arXiv:2505.09388; Qwen/Qwen3-0.6B-Base ... -14B-Base,
  # Qwen3-32B, Qwen3-30B-A3B-Base, Qwen3-235B-A22B
  "qwen3_0_6b": qwen3(1024, 28, 16, 3072, tie_embeddings=True),
  "qwen3_1_7b": qwen3(2048, 28, 16, 6144, tie_embeddings=True),
  "qwen3_4b": qwen3(2560, 36, 32, 9728, tie_embeddings=True),
  "qwen3_8b": qwen3(4096, 36, 32, 12288),
  "qwen3_14b": qwen3(5120, 40, 40, 17408),
  "qwen3_32b": qwen3(5120, 64, 64, 25600, max_len=40960),
  "qwen3_30b_a3b": qwen3(
    *(2048, 48, 32, 768, 4), ffn="moe", opts=mixture(128, 8, True)
  ),
  "qwen3_235b_a22b": qwen3(
    *(4096, 94, 64, 1536, 4),
    ffn="moe",
    max_len=40960,
    opts=mixture(128, 8, True),
  ),
}
