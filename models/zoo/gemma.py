"""Gemma: GeGLU, tied embeddings times sqrt(D), then norms on both sides.

Shapes are those of the Hugging Face configs that the comments name. Gemma's
norms multiply by 1 + w, ours by a scale that starts at 1: the same model, but
for weight decay, which ours leave out.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape


def gemma(
  D: int, L: int, N: int, F: int, K: int, H: int, **more: Any
) -> Mapping[str, Any]:
  usual = {"vocab_size": 256000, "max_len": 8192}
  opts = {"glu.activation": "gelu_tanh"} | more.pop("opts", {})
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=N,
    n_kv_heads=K,
    head_dim=H,
    ff_dim=F,
    norm_eps=1e-6,
    tie_embeddings=True,
    embed_scale=D**0.5,
    opts=opts,
    **usual | more,
  )


def local_and_global(**both: Any) -> dict[str, Any]:
  """Options of both kinds of layers."""
  kinds = ("sliding_window", "attention")
  return {f"{kind}.{key}": v for kind in kinds for key, v in both.items()}


def gemma2(
  D: int, L: int, N: int, F: int, K: int, H: int, scale: float
) -> Mapping[str, Any]:
  return gemma(
    *(D, L, N, F, K, H),
    pattern=("sliding_window", "attention"),
    residual="sandwich",
    logits_soft_cap=30.0,
    opts=local_and_global(soft_cap=50.0, scale=scale)
    | {"sliding_window.window": 4096},
  )


def gemma3(
  D: int,
  L: int,
  N: int,
  F: int,
  K: int,
  H: int,
  *,
  scale: float = 256**-0.5,
  window: int = 1024,
  factor: float = 8.0,
  **more: Any,
) -> Mapping[str, Any]:
  # Local layers turn by RoPE of the base 10,000. Global ones have a base of
  # their own, and from 4B on positions that were stretched; by 1 they are not.
  far = {"linear.rope_theta": 1e6, "linear.factor": factor}
  return gemma(
    *(D, L, N, F, K, H),
    pattern=("sliding_window",) * 5 + ("attention",),
    residual="sandwich",
    **{"vocab_size": 262208, "max_len": 131072} | more,
    opts=local_and_global(qk_norm="rms_norm", scale=scale)
    | {"sliding_window.window": window, "attention.position": "linear"}
    | far,
  )


SHAPES = {
  # Gemma Team 2024, arXiv:2403.08295; google/gemma-2b, gemma-7b
  "gemma_2b": gemma(2048, 18, 8, 16384, 1, 256),
  "gemma_7b": gemma(3072, 28, 16, 24576, 16, 256),
  # Gemma Team 2024, arXiv:2408.00118; google/gemma-2-2b ... gemma-2-27b
  "gemma2_2b": gemma2(2304, 26, 8, 9216, 4, 256, 256**-0.5),
  "gemma2_9b": gemma2(3584, 42, 16, 14336, 8, 256, 256**-0.5),
  "gemma2_27b": gemma2(4608, 46, 32, 36864, 16, 128, 144**-0.5),
  # Gemma Team 2025, arXiv:2503.19786; google/gemma-3-1b-pt ... -27b-pt, the
  # decoder of text alone
  "gemma3_1b": gemma3(
    *(1152, 26, 4, 6912, 1, 256),
    window=512,
    factor=1.0,
    vocab_size=262144,
    max_len=32768,
  ),
  "gemma3_4b": gemma3(2560, 34, 8, 10240, 4, 256),
  "gemma3_12b": gemma3(3840, 48, 16, 15360, 8, 256),
  "gemma3_27b": gemma3(5376, 62, 32, 21504, 16, 128, scale=168**-0.5),
}
