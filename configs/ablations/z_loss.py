"""A z-loss of the usual weight costs nothing in held-out loss.

The penalty of log(Z)^2 (Chowdhery et al. 2022, arXiv:2204.02311, section 5) at
its weight there, and at a hundred times that.

  ablax ablate --config=configs/ablations/z_loss.py

Cost: 15 runs, 3 to 4 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/z_loss): neither is separated from none.
"""

from ablax.configs.lm import toy


def get_config():
  return toy.get_config()


def sweep():
  return {
    "arms": {
      "none": {},
      "1e-4": {"objective.z_loss": 1e-4},
      "1e-2": {"objective.z_loss": 1e-2},
    },
    "axes": ("objective.z_loss",),
    "seeds": 5,
  }
