"""Hybrids: recurrences with some attention, in turn or side by side.

Shapes are those of the Hugging Face configs that the comments name.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape


def jamba(D: int, L: int, N: int, F: int) -> Mapping[str, Any]:
  """Attention in one layer of eight, experts in every other one."""
  mixers = ("mamba",) * 4 + ("attention",) + ("mamba",) * 3
  ffns = ("glu", "moe") * 4
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    n_kv_heads=8,
    ff_dim=F,
    vocab_size=65536,
    pattern=tuple(map("/".join, zip(mixers, ffns, strict=True))),
    position="none",
    norm_eps=1e-6,
    max_len=262144,
    opts={
      "mamba.inner_norm": "scaled",
      "moe.n_experts": 16,
      "moe.top_k": 2,
      "softmax.renormalize": False,
    },
  )


def recurrent_gemma(D: int, L: int, N: int, F: int) -> Mapping[str, Any]:
  """Two of Griffin's recurrent layers, then one of local attention.

  All that has weights has biases, but for queries, keys and values. As in
  Gemma's norms a scale of 1 is a weight of 0.
  """
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    n_kv_heads=1,
    ff_dim=F,
    vocab_size=256000,
    pattern=("rg_lru", "rg_lru", "sliding_window"),
    norm_eps=1e-6,
    tie_embeddings=True,
    embed_scale=D**0.5,
    logits_soft_cap=30.0,
    max_len=8192,
    opts={
      "rg_lru.bias": True,
      "sliding_window.window": 2048,
      "sliding_window.o_bias": True,
      "rope.fraction": 0.5,
      "glu.activation": "gelu_tanh",
      "glu.bias": True,
    },
  )


def zamba(D: int, L: int, N: int, F: int) -> Mapping[str, Any]:
  """One block of attention, which all of a model's six-layer tiles share.

  Its heads divide twice the width, which its queries are made of.
  """
  tile = ("mamba",) * 4 + ("shared_block", "mamba")
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    head_dim=2 * D // N,
    ff_dim=F,
    vocab_size=32000,
    first=("mamba", "mamba", "shared_block"),
    pattern=tile,
    ffn="none",
    position="none",
    tie_embeddings=True,
    max_len=4096,
    opts={
      "mamba.n_heads": 2,
      "attention.scale": (D // N) ** -0.5,
      "glu.activation": "gelu",
    },
  )


def samba(D: int, L: int, N: int, F: int) -> Mapping[str, Any]:
  """Mamba and a window of attention in turn."""
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    ff_dim=F,
    vocab_size=32000,
    pattern=("mamba", "sliding_window"),
    tie_embeddings=True,
    max_len=4096,
    opts={"sliding_window.window": 2048},
  )


def falcon_h1(
  D: int,
  L: int,
  N: int,
  F: int,
  V: int,
  *,
  channels: int,
  head_dim: int = 128,
  state: int = 256,
  groups: int = 1,
  norm: bool = True,
  attention_dim: int = 128,
  kv_heads: int = 2,
  max_len: int = 131072,
) -> Mapping[str, Any]:
  """Both in each layer; sizes of Mamba-2 are named, those of heads its own.

  The multipliers by which its authors transfer rates across sizes are no part
  of it: weights can hold what they do. Options of parallel_heads, mamba2 and
  glu are theirs, model.embed_scale, and attention.scale for that of keys.
  """
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    n_kv_heads=kv_heads,
    head_dim=attention_dim,
    ff_dim=F,
    vocab_size=V,
    pattern=("parallel_heads",),
    max_len=max_len,
    opts={
      "parallel_heads.mixers": ("attention", "mamba2"),
      "mamba2.channels": channels,
      "mamba2.head_dim": head_dim,
      "mamba2.state": state,
      "mamba2.groups": groups,
      "mamba2.norm": norm,
      "rope.rope_theta": 1e11,
    },
  )


SHAPES = {
  # Lieber et al. 2024, arXiv:2403.19887; ai21labs/Jamba-v0.1. Jamba Team 2024,
  # arXiv:2408.12570; AI21-Jamba-1.5-Mini, the same shape, and -1.5-Large
  **dict.fromkeys(("jamba_v0_1", "jamba_1_5_mini"), jamba(4096, 32, 32, 14336)),
  "jamba_1_5_large": jamba(8192, 72, 64, 24576),
  # Botev et al. 2024, arXiv:2404.07839; google/recurrentgemma-2b, -9b
  "recurrentgemma_2b": recurrent_gemma(2560, 26, 10, 7680),
  "recurrentgemma_9b": recurrent_gemma(4096, 38, 16, 12288),
  # Qwen Team 2025; Qwen/Qwen3-Next-80B-A3B-Instruct, without the layer that
  # predicts a second token
  "qwen3_next_80b_a3b": shape(
    d_model=2048,
    n_layers=48,
    n_heads=16,
    n_kv_heads=2,
    head_dim=256,
    ff_dim=512,
    vocab_size=151936,
    pattern=("gated_delta_net",) * 3 + ("attention",),
    ffn="moe",
    norm_eps=1e-6,
    max_len=262144,
    opts={
      "gated_delta_net.n_heads": 32,
      "gated_delta_net.n_key_heads": 16,
      "gated_delta_net.key_dim": 128,
      "gated_delta_net.value_dim": 128,
      "attention.gate": "channel",
      "attention.qk_norm": "rms_norm",
      "rope.rope_theta": 1e7,
      "rope.fraction": 0.25,
      "moe.n_experts": 512,
      "moe.top_k": 10,
      "moe.shared_experts": 1,
      "moe.shared_gate": True,
      "softmax.renormalize": True,
    },
  ),
  # Ren et al. 2024, arXiv:2406.07522; Samba_421M and Samba_1.3B of
  # microsoft/Samba's configs
  "samba_421m": samba(1536, 12, 12, 4096),
  "samba_1_3b": samba(2304, 18, 18, 6144),
  # Glorioso et al. 2024, arXiv:2405.16712; Zyphra/Zamba-7B-v1
  "zamba_7b": zamba(3712, 76, 16, 14848),
  # Zuo et al. 2025, arXiv:2507.22448; tiiuae/Falcon-H1-0.5B-Base ... -34B-Base
  "falcon_h1_0_5b": falcon_h1(
    *(1024, 36, 8, 2048, 32784),
    channels=1536,
    head_dim=64,
    state=128,
    norm=False,
    attention_dim=64,
    max_len=16384,
  ),
  "falcon_h1_1_5b": falcon_h1(
    *(2048, 24, 8, 4608, 65537), channels=3072, head_dim=64
  ),
  "falcon_h1_3b": falcon_h1(*(2560, 32, 10, 6144, 65537), channels=4096),
  "falcon_h1_7b": falcon_h1(
    *(3072, 44, 12, 12288, 130049), channels=3072, max_len=262144
  ),
  "falcon_h1_34b": falcon_h1(
    *(5120, 72, 20, 21504, 261120),
    channels=4096,
    groups=2,
    kv_heads=4,
    max_len=262144,
  ),
}
