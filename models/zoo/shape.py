"""From the numbers of an architecture to overrides of a config."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# What makes an architecture besides its sizes. All of it stands in each entry,
# so that it is the same on top of any config.
USUAL = {
  "n_kv_heads": 0,
  "head_dim": 0,
  "pattern": ("attention",),
  "first": (),
  "position": "rope",
  "ffn": "glu",
  "norm": "rms_norm",
  "norm_eps": 1e-5,
  "residual": "pre",
  "tie_embeddings": False,
  "embed_rank": 0,
  "tie_embed_maps": True,
  "embed_scale": 1.0,
  "embed_norm": False,
  "output_bias": False,
  "use_bias": False,
  "logits_soft_cap": 0.0,
}


def shape(
  *,
  d_model: int,
  n_layers: int,
  n_heads: int,
  ff_dim: int,
  vocab_size: int,
  max_len: int,
  opts: Mapping[str, Any] | None = None,
  **more: Any,
) -> Mapping[str, Any]:
  """Dotted keys of the config.

  Args:
    opts: those of `model.opts`, as in {"rope.rope_theta": 5e5}.
    more: others than `USUAL`.
  """
  assert more.keys() <= USUAL.keys(), more
  model = USUAL | more
  model |= {"d_model": d_model, "n_layers": n_layers, "n_heads": n_heads}
  model |= {"ff_dim": ff_dim, "vocab_size": vocab_size, "max_len": max_len}
  model |= {f"opts.{key}": value for key, value in (opts or {}).items()}
  return MappingProxyType({f"model.{k}": v for k, v in model.items()})
