"""GPT-2 and those of its line: LayerNorm, biases, two matrices in the ffn.

Shapes are those of the Hugging Face configs that the comments name.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape


def gpt(
  D: int, L: int, N: int, V: int, activation: str, **more: Any
) -> Mapping[str, Any]:
  opts = {"mlp.activation": activation} | more.pop("opts", {})
  usual = {"norm": "layer_norm", "ffn": "mlp", "use_bias": True}
  sizes = {"d_model": D, "n_layers": L, "n_heads": N, "ff_dim": 4 * D}
  return shape(vocab_size=V, opts=opts, **usual | sizes | more)


def gpt2(D: int, L: int, N: int) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, 50257, "gelu_tanh"),
    position="learned",
    tie_embeddings=True,
    max_len=1024,
  )


def opt(D: int, L: int, N: int, **more: Any) -> Mapping[str, Any]:
  # Of the 2,050 positions that its table has, the first is number 2.
  return gpt(
    *(D, L, N, 50272, "relu"),
    position="learned",
    tie_embeddings=True,
    max_len=2050,
    **more,
  )


def bloom(D: int, L: int, N: int) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, 250880, "gelu_tanh"),
    position="alibi",
    embed_norm=True,
    tie_embeddings=True,
    max_len=2048,
  )


def neox(D: int, L: int, N: int, V: int = 50304) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, V, "gelu"),
    residual="parallel_norms",
    max_len=2048,
    opts={"rope.fraction": 0.25},
  )


def falcon(
  D: int, L: int, N: int, K: int, residual: str = "parallel"
) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, 65024, "gelu"),
    n_kv_heads=K,
    residual=residual,
    use_bias=False,
    tie_embeddings=True,
    max_len=2048,
  )


def mpt(D: int, L: int, N: int, max_len: int) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, 50432, "gelu"),
    position="alibi",
    use_bias=False,
    tie_embeddings=True,
    max_len=max_len,
    opts={"layer_norm.bias": False},
  )


def phi(D: int, L: int, N: int, fraction: float) -> Mapping[str, Any]:
  return gpt(
    *(D, L, N, 51200, "gelu_tanh"),
    residual="parallel",
    output_bias=True,
    max_len=2048,
    opts={"rope.fraction": fraction},
  )


SHAPES = {
  # Radford et al. 2019; openai-community/gpt2, -medium, -large, -xl
  "gpt2_124m": gpt2(768, 12, 12),
  "gpt2_355m": gpt2(1024, 24, 16),
  "gpt2_774m": gpt2(1280, 36, 20),
  "gpt2_1_5b": gpt2(1600, 48, 25),
  # Zhang et al. 2022, arXiv:2205.01068; facebook/opt-125m ... opt-66b
  "opt_125m": opt(768, 12, 12),
  "opt_350m": opt(
    *(1024, 24, 16),
    residual="post",
    embed_rank=512,
    tie_embed_maps=False,
  ),
  "opt_1_3b": opt(2048, 24, 32),
  "opt_2_7b": opt(2560, 32, 32),
  "opt_6_7b": opt(4096, 32, 32),
  "opt_13b": opt(5120, 40, 40),
  "opt_30b": opt(7168, 48, 56),
  "opt_66b": opt(9216, 64, 72),
  # BigScience 2022, arXiv:2211.05100; bigscience/bloom-560m ... bloom
  "bloom_560m": bloom(1024, 24, 16),
  "bloom_1b1": bloom(1536, 24, 16),
  "bloom_1b7": bloom(2048, 24, 16),
  "bloom_3b": bloom(2560, 30, 32),
  "bloom_7b1": bloom(4096, 30, 32),
  "bloom_176b": bloom(14336, 70, 112),
  # Biderman et al. 2023, arXiv:2304.01373; EleutherAI/pythia-70m ... -12b
  "pythia_70m": neox(512, 6, 8),
  "pythia_160m": neox(768, 12, 12),
  "pythia_410m": neox(1024, 24, 16),
  "pythia_1b": neox(2048, 16, 8),
  "pythia_1_4b": neox(2048, 24, 16),
  "pythia_2_8b": neox(2560, 32, 32),
  "pythia_6_9b": neox(4096, 32, 32, 50432),
  "pythia_12b": neox(5120, 36, 40, 50688),
  # Black et al. 2022, arXiv:2204.06745; EleutherAI/gpt-neox-20b
  "gpt_neox_20b": neox(6144, 44, 64, 50432),
  # Li et al. 2023, arXiv:2309.05463; microsoft/phi-1_5 and phi-2
  "phi_1_5": phi(2048, 24, 32, 0.5),
  "phi_2": phi(2560, 32, 32, 0.4),
  # MosaicML 2023; mosaicml/mpt-7b, mpt-30b
  "mpt_7b": mpt(4096, 32, 32, 2048),
  "mpt_30b": mpt(7168, 48, 64, 8192),
  # Almazrouei et al. 2023, arXiv:2311.16867; tiiuae/falcon-7b and -40b
  "falcon_7b": falcon(4544, 32, 71, 1),
  "falcon_40b": falcon(8192, 60, 128, 8, "parallel_norms"),
}
