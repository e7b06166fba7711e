"""Llama and those of its line: RMSNorm, RoPE, SwiGLU, no biases.

Shapes are those of the Hugging Face configs that the comments name.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape


def llama(
  D: int, L: int, N: int, F: int, V: int, K: int = 0, **more: Any
) -> Mapping[str, Any]:
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    n_kv_heads=K,
    ff_dim=F,
    vocab_size=V,
    **more,
  )


def llama1(D: int, L: int, N: int, F: int, eps: float) -> Mapping[str, Any]:
  return llama(D, L, N, F, 32000, norm_eps=eps, max_len=2048)


def llama2(D: int, L: int, N: int, F: int, K: int = 0) -> Mapping[str, Any]:
  return llama(D, L, N, F, 32000, K, max_len=4096)


def llama3(
  D: int, L: int, N: int, F: int, factor: float = 1.0, tied: bool = False
) -> Mapping[str, Any]:
  """From 3.1 on trained positions of 8,192 are stretched by `factor`."""
  position = "rope" if factor == 1 else "llama3"
  opts = {f"{position}.rope_theta": 5e5}
  if factor > 1:
    opts |= {"llama3.factor": factor, "llama3.original_len": 8192}
  return llama(
    *(D, L, N, F, 128256, 8),
    position=position,
    tie_embeddings=tied,
    max_len=8192 if factor == 1 else 131072,
    opts=opts,
  )


def mixtral(D: int, L: int, N: int, F: int, max_len: int) -> Mapping[str, Any]:
  return llama(
    *(D, L, N, F, 32000, 8),
    ffn="moe",
    max_len=max_len,
    opts={
      "rope.rope_theta": 1e6,
      "moe.n_experts": 8,
      "moe.top_k": 2,
      "softmax.renormalize": True,
    },
  )


def olmo2(D: int, L: int, N: int, F: int) -> Mapping[str, Any]:
  return llama(
    *(D, L, N, F, 100352),
    residual="after",
    norm_eps=1e-6,
    max_len=4096,
    opts={
      "rope.rope_theta": 5e5,
      "attention.qk_norm": "rms_norm",
      "attention.qk_norm_of": "all heads",
    },
  )


SHAPES = {
  # Touvron et al. 2023, arXiv:2302.13971, table 2; huggyllama/llama-7b ... -65b
  "llama_7b": llama1(4096, 32, 32, 11008, 1e-6),
  "llama_13b": llama1(5120, 40, 40, 13824, 1e-6),
  "llama_33b": llama1(6656, 60, 52, 17920, 1e-6),
  "llama_65b": llama1(8192, 80, 64, 22016, 1e-5),
  # Touvron et al. 2023, arXiv:2307.09288; meta-llama/Llama-2-7b-hf ... -70b-hf
  "llama2_7b": llama2(4096, 32, 32, 11008),
  "llama2_13b": llama2(5120, 40, 40, 13824),
  "llama2_70b": llama2(8192, 80, 64, 28672, 8),
  # Grattafiori et al. 2024, arXiv:2407.21783; meta-llama/Meta-Llama-3-8B and
  # -70B, Llama-3.1-8B, -70B and -405B, Llama-3.2-1B and -3B
  "llama3_8b": llama3(4096, 32, 32, 14336),
  "llama3_70b": llama3(8192, 80, 64, 28672),
  "llama3_1_8b": llama3(4096, 32, 32, 14336, 8.0),
  "llama3_1_70b": llama3(8192, 80, 64, 28672, 8.0),
  "llama3_1_405b": llama3(16384, 126, 128, 53248, 8.0),
  "llama3_2_1b": llama3(2048, 16, 32, 8192, 32.0, tied=True),
  "llama3_2_3b": llama3(3072, 28, 24, 8192, 32.0, tied=True),
  # Jiang et al. 2023, arXiv:2310.06825; mistralai/Mistral-7B-v0.1
  "mistral_7b": llama(
    *(4096, 32, 32, 14336, 32000, 8),
    pattern=("sliding_window",),
    max_len=32768,
    opts={"sliding_window.window": 4096},
  ),
  # Jiang et al. 2024, arXiv:2401.04088; mistralai/Mixtral-8x7B-v0.1, 8x22B-v0.1
  "mixtral_8x7b": mixtral(4096, 32, 32, 14336, 32768),
  "mixtral_8x22b": mixtral(6144, 56, 48, 16384, 65536),
  # 01.AI 2024, arXiv:2403.04652; 01-ai/Yi-6B, Yi-34B
  "yi_6b": llama(
    *(4096, 32, 32, 11008, 64000, 4),
    max_len=4096,
    opts={"rope.rope_theta": 5e6},
  ),
  "yi_34b": llama(
    *(7168, 60, 56, 20480, 64000, 8),
    max_len=4096,
    opts={"rope.rope_theta": 5e6},
  ),
  # Baichuan 2023; baichuan-inc/Baichuan-7B, Baichuan-13B-Base
  "baichuan_7b": llama(
    *(4096, 32, 32, 11008, 64000), norm_eps=1e-6, max_len=4096
  ),
  "baichuan_13b": llama(
    *(5120, 40, 40, 13696, 64000),
    position="alibi",
    norm_eps=1e-6,
    max_len=4096,
  ),
  # Zeng et al. 2024, arXiv:2406.12793; THUDM/chatglm2-6b, and chatglm3-6b-base,
  # which has the same shape
  **{
    name: llama(
      *(4096, 28, 32, 13696, 65024, 2),
      max_len=32768,
      opts={
        "attention.qkv_bias": True,
        "rope.fraction": 0.5,
        "rope.pairing": "interleaved",
      },
    )
    for name in ("chatglm2_6b", "chatglm3_6b")
  },
  # InternLM Team 2023; internlm/internlm-7b
  "internlm_7b": llama(
    *(4096, 32, 32, 11008, 103168),
    norm_eps=1e-6,
    max_len=2048,
    opts={"attention.qkv_bias": True, "attention.o_bias": True},
  ),
  # OLMo Team 2024, arXiv:2501.00656; allenai/OLMo-2-1124-7B, OLMo-2-1124-13B
  "olmo2_7b": olmo2(4096, 32, 32, 11008),
  "olmo2_13b": olmo2(5120, 40, 40, 13824),
  # Cai et al. 2024, arXiv:2403.17297; internlm/internlm2-7b, internlm2-20b
  "internlm2_7b": llama(
    *(4096, 32, 32, 14336, 92544, 8),
    max_len=32768,
    opts={"rope.rope_theta": 1e6},
  ),
  "internlm2_20b": llama(
    *(6144, 48, 48, 16384, 92544, 8),
    max_len=32768,
    opts={"rope.rope_theta": 1e6},
  ),
  # Wei et al. 2023, arXiv:2310.19341, tables 3 and 4
  "skywork_13b": llama(
    *(4608, 52, 36, 12288, 65536), norm_eps=1e-6, max_len=4096
  ),
}
