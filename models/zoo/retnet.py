"""RetNet: retention in every layer (Sun et al. 2023, arXiv:2307.08621).

No weights were released. Sizes are those of the paper's table 2 and section
2.1, 12 d_model^2 to a layer; the vocabulary, which it does not say, is GPT-2's,
and tied.
"""

from collections.abc import Mapping
from typing import Any

from .shape import shape

HEAD_DIM = 256  # of queries and keys; values have twice as much


def retnet(D: int, L: int) -> Mapping[str, Any]:
  return shape(
    d_model=D,
    n_layers=L,
    n_heads=D // HEAD_DIM,
    ff_dim=2 * D,
    vocab_size=50257,
    pattern=("retention",),
    position="none",
    ffn="mlp",
    norm="layer_norm",
    tie_embeddings=True,
    max_len=2048,
    opts={"mlp.activation": "gelu"},
  )


SHAPES = {
  "retnet_1_3b": retnet(2048, 24),
  "retnet_2_7b": retnet(2560, 32),
  "retnet_6_7b": retnet(4096, 32),
}
