"""Mamba and Mamba-2: layers of one branch, without attention.

Shapes are those of the Hugging Face configs that the comments name.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape

HEAD_DIM = 64  # of Mamba-2; Mamba has no heads


def ssm(D: int, L: int, V: int, mixer: str, **more: Any) -> Mapping[str, Any]:
  """Vocabularies are padded, as the weights have them."""
  usual = {"max_len": 2048, "tie_embeddings": True}
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=D // HEAD_DIM,
    ff_dim=0,
    vocab_size=V,
    pattern=(mixer,),
    position="none",
    ffn="none",
    **usual | more,
  )


def mamba(D: int, L: int) -> Mapping[str, Any]:
  return ssm(D, L, 50280, "mamba")


def mamba2(D: int, L: int) -> Mapping[str, Any]:
  opts = {"mamba2.state": 128, "mamba2.head_dim": HEAD_DIM}
  return ssm(D, L, 50288, "mamba2", opts=opts)


SHAPES = {
  # Gu and Dao 2023, arXiv:2312.00752; state-spaces/mamba-130m ... -2.8b
  "mamba_130m": mamba(768, 24),
  "mamba_370m": mamba(1024, 48),
  "mamba_790m": mamba(1536, 48),
  "mamba_1_4b": mamba(2048, 48),
  "mamba_2_8b": mamba(2560, 64),
  # Dao and Gu 2024, arXiv:2405.21060; state-spaces/mamba2-130m ... -2.7b
  "mamba2_130m": mamba2(768, 24),
  "mamba2_370m": mamba2(1024, 48),
  "mamba2_780m": mamba2(1536, 48),
  "mamba2_1_3b": mamba2(2048, 48),
  "mamba2_2_7b": mamba2(2560, 64),
  # Zuo et al. 2024, arXiv:2410.05355; tiiuae/falcon-mamba-7b
  "falcon_mamba_7b": ssm(
    *(4096, 64, 65024, "mamba"),
    tie_embeddings=False,
    max_len=8192,
    opts={"mamba.inner_norm": "plain", "mamba.inner_norm_eps": 1e-6},
  ),
}
