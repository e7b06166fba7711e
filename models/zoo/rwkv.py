"""RWKV-4 to 7: time mixing and channel mixing in turn.

Sizes are those of the papers; each counts as many numbers as their formulas.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape

HEAD_DIM = 64


def rwkv(
  version: int,
  D: int,
  L: int,
  F: int,
  V: int,
  opts: dict[str, Any] | None = None,
  **more: Any,
) -> Mapping[str, Any]:
  mixer = f"rwkv{version}"
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=D // HEAD_DIM,
    ff_dim=F,
    vocab_size=V,
    pattern=(mixer,),
    # Whose values go into those of the others.
    first=(mixer,) if version == 7 else (),
    position="none",
    ffn="channel_mix",
    norm="layer_norm",
    embed_norm=True,
    opts={"channel_mix.receptance": version < 7} | (opts or {}),
    **more,
  )


def rwkv4(D: int, L: int) -> Mapping[str, Any]:
  return rwkv(4, D, L, 4 * D, 50277, max_len=1024)


def world(
  version: int, D: int, L: int, opts: dict[str, Any] | None = None
) -> Mapping[str, Any]:
  F = 4 * D if version == 7 else D * 7 // 2
  return rwkv(version, D, L, F, 65536, opts, max_len=4096)


SHAPES = {
  # Peng et al. 2023, arXiv:2305.13048, table 2; BlinkDL/rwkv-4-pile-169m ...
  "rwkv4_169m": rwkv4(768, 12),
  "rwkv4_430m": rwkv4(1024, 24),
  "rwkv4_1_5b": rwkv4(2048, 24),
  "rwkv4_3b": rwkv4(2560, 32),
  "rwkv4_7b": rwkv4(4096, 32),
  "rwkv4_14b": rwkv4(5120, 40),
  # Peng et al. 2024, arXiv:2404.05892; BlinkDL/rwkv-5-world, rwkv-6-world
  "rwkv5_0_4b": world(5, 1024, 24),
  "rwkv5_1_5b": world(5, 2048, 24),
  "rwkv5_3b": world(5, 2560, 32),
  "rwkv5_7b": world(5, 4096, 32),
  "rwkv6_1_6b": world(6, 2048, 24),
  "rwkv6_3b": world(6, 2560, 32),
  # Peng et al. 2025, arXiv:2503.14456; BlinkDL/rwkv-7-world
  "rwkv7_0_1b": world(7, 768, 12),
  "rwkv7_0_4b": world(7, 1024, 24, {"rwkv7.gate_rank": 128}),
  "rwkv7_1_5b": world(7, 2048, 24),
  "rwkv7_2_9b": world(7, 2560, 32),
}
