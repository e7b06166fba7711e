"""AdamW, Lion, Muon and Sophia, each at its best learning rate.

The rates are those that configs/ablations/optimizer_rates.py found, a factor of
3 apart; all else is the same.

  ablax ablate --config=configs/ablations/optimizers.py

Cost: 20 runs, 5 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/optimizers): Muon is better than AdamW
by 0.022 bits per byte, Lion worse by 0.211, Sophia by 0.239.
"""

from ablax.configs.lm import toy

BEST = {"adamw": 1e-2, "lion": 3e-3, "muon": 3e-2, "sophia": 1e-3}


def get_config():
  return toy.get_config()


def sweep():
  return {
    "arms": {
      name: {"opt.name": name, "opt.lr": rate} for name, rate in BEST.items()
    },
    "axes": ("opt.name", "opt.lr"),
    "seeds": 5,
  }
