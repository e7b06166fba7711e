"""Fewer key-value heads cost little where the parameters are kept equal.

Grouped queries (Ainslie et al. 2023, arXiv:2305.13245): 8 query heads share 8,
2 or 1 heads of keys and values, and a wider feed-forward network takes the
parameters that are saved.

  ablax ablate --config=configs/ablations/gqa_groups.py

Cost: 15 runs, 3 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/gqa_groups): 2 heads are not separated
from 8, 1 is worse by 0.018 bits per byte.
"""

from ablax.configs.lm import toy


def get_config():
  config = toy.get_config()
  config.model.n_heads = 8
  config.model.n_kv_heads = 8
  return config


def sweep():
  return {
    "arms": {
      "8 kv heads": {},
      "2 kv heads": {"model.n_kv_heads": 2},
      "1 kv head": {"model.n_kv_heads": 1},
    },
    "axes": ("model.n_kv_heads",),
    "budget": "params",
    "solve": "model.ff_dim",
    "multiple_of": 4,
    "seeds": 5,
  }
