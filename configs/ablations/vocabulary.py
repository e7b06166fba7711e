"""How large a vocabulary pays, in bits per byte at equal training FLOPs.

A larger one has fewer tokens for the same text and a larger output matrix. The
updates are chosen so that all arms train for the same FLOPs; tokens are not
comparable, bytes are (Tao et al. 2024, arXiv:2407.13623).

  ablax ablate --config=configs/ablations/vocabulary.py

Cost: 20 runs, 5 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/vocabulary): 1,024 pieces are better
than 512 by 0.167, than 2,048 by 0.019 and than 4,096 by 0.083 bits per byte.
"""

from ablax.configs.lm import toy


def get_config():
  return toy.get_config()


def sweep():
  return {
    "grid": {"data.vocab_size": (512, 1024, 2048, 4096)},
    "baseline": "vocab_size=1024",
    "budget": "flops",
    "solve": "steps",
    "seeds": 5,
  }
