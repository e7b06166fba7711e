"""On text, at equal FLOPs, mixers differ less than in recall.

The seven mixers of configs/ablations/recall.py, each for as many updates as the
FLOPs of 400 updates of attention allow, all at attention's rate.

  ablax ablate --config=configs/ablations/mixers.py

Cost: 35 runs, some 20 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/mixers): Mamba-2 is better than
attention (-0.034 bits per byte), linear attention worse (+0.045); Based and
RWKV-7 (-0.027 each) and gated DeltaNet (+0.033) are not separated. Hyena is far
worse (+0.406): attention's rate is too high for its filters.
"""

from ablax.configs.ablations.recall import SEVEN
from ablax.configs.lm import toy

WIDER = {"Based": {"model.opts.sliding_window.window": 16}}  # for longer rows


def get_config():
  return toy.get_config()


def sweep():
  return {
    "arms": {
      name: {**changes, **WIDER.get(name, {})}
      for name, changes in SEVEN.items()
    },
    "axes": ("model.pattern", "model.position", "model.opts"),
    "budget": "flops",
    "solve": "steps",
    "seeds": 5,
  }
