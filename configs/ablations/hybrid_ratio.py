"""With attention in half of the layers a hybrid is as good as with it in all.

Of four layers none, one, two or all are attention, others gated DeltaNet, at
equal parameters; published hybrids such as Qwen3-Next have one in four. All
train at the rate of attention's toy.

  ablax ablate --config=configs/ablations/hybrid_ratio.py

Cost: 20 runs, some 20 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/hybrid_ratio): 2 of 4 are not separated
from attention alone, 1 of 4 is worse by 0.084 bits per byte, none by 0.137.
"""

from ablax.configs.lm import toy

LAYERS = 4


def get_config():
  config = toy.get_config()
  config.model.n_layers = LAYERS
  config.model.pattern = ("gated_delta_net",)
  return config


def _layers(*attention):
  words = ["gated_delta_net"] * LAYERS
  for place in attention:
    words[place] = "attention"
  return {"model.pattern": tuple(words)}


def sweep():
  return {
    "arms": {
      "no attention": {},
      "1 of 4": _layers(3),
      "2 of 4": _layers(1, 3),
      "attention alone": {"model.pattern": ("attention",)},
    },
    # Attention has RoPE, and DeltaNet no use for it.
    "axes": ("model.pattern", "model.position", "model.opts"),
    "baseline": "attention alone",
    "budget": "params",
    "solve": "model.ff_dim",
    "multiple_of": 4,
    "seeds": 5,
  }
