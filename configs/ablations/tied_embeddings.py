"""Tied embeddings save parameters; what they cost in bits per byte.

The output matrix is the embedding table (Press and Wolf 2017,
arXiv:1608.05859), or one of its own; and one of its own with the parameters
taken from the feed-forward networks instead.

  ablax ablate --config=configs/ablations/tied_embeddings.py

Cost: 15 runs, 3 to 4 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/tied_embeddings): a matrix of its own is
better by 0.023 bits per byte; paid for by feed-forward networks, it is worse by
0.150.
"""

from ablax.configs.lm import toy


def get_config():
  return toy.get_config()


def sweep():
  return {
    "arms": {
      "tied": {},
      "untied": {"model.tie_embeddings": False},
      # 2 layers x 3 matrices x 64 x 168 = the 64,512 of 1,008 of the rows.
      "untied, equal": {"model.tie_embeddings": False, "model.ff_dim": 8},
    },
    "axes": ("model.tie_embeddings", "model.ff_dim"),
    "seeds": 5,
  }
