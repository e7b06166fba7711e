"""With muP the best learning rate of a narrow model is that of a wide one.

Maximal update parametrization (Yang et al. 2022, arXiv:2203.03466), tuned at
width 64, against standard parametrization, whose best rate falls as the width
grows.

  ablax ablate --config=configs/ablations/mup.py --untested

The question is where each width does best, so one seed serves.

Cost: 30 runs, 6 to 12 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/mup): without muP the best rate falls
from 2^-7 to 2^-8 and 2^-9 at widths 64, 128 and 256; with it, it stays, and 256
ends at 2.224 bits per byte in the place of 2.431.
"""

from ablax.configs.lm import toy

BASE = 64
WIDTHS = (64, 128, 256)
RATES = tuple(2.0**-k for k in range(10, 4, -1))


def get_config():
  config = toy.get_config()
  config.steps = 200
  config.model.ff_dim = 0  # 8/3 of the width
  config.model.mup_grows = "head_dim"
  config.opt.warmup_steps = 20
  config.opt.weight_decay = 0.0
  config.eval.every = 0
  return config


def sweep():
  return {
    "grid": {
      "model.mup_base": (0, BASE),
      "model.d_model": WIDTHS,
      "opt.lr": RATES,
    },
    # At the base width the two are one.
    "where": lambda arm: not arm["model.mup_base"] or arm["model.d_model"] > 64,
    "axes": ("model.head_dim", "model.ff_dim"),
    "baseline": f"mup_base=0 d_model=64 lr={RATES[-1]:g}",
    "seeds": 1,
  }
