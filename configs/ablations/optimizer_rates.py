"""The learning rate at which each optimizer does best, at toy scale.

Not a claim but a search: configs/ablations/optimizers.py compares optimizers
at the rates that this one found, with other seeds and tests.

  ablax ablate --config=configs/ablations/optimizer_rates.py

Cost: 30 runs, 5 to 8 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/optimizer_rates): AdamW at 0.01, Lion at
0.003, Muon at 0.03, Sophia at 0.001.
"""

from ablax.configs.lm import toy

RATES = {
  "adamw": (3e-3, 1e-2, 3e-2),
  "lion": (3e-4, 1e-3, 3e-3, 1e-2),
  "muon": (3e-3, 1e-2, 3e-2, 1e-1),
  "sophia": (3e-4, 1e-3, 3e-3, 1e-2),
}


def get_config():
  return toy.get_config()


def sweep():
  arms = {
    f"{name} {rate:g}": {"opt.name": name, "opt.lr": rate}
    for name, rates in RATES.items()
    for rate in rates
  }
  return {
    "arms": arms,
    "axes": ("opt.name", "opt.lr"),
    "baseline": "adamw 0.01",
    "seeds": 2,
  }
