"""Recall tells mixers apart: attention, those that forget by key, the rest.

Multi-query associative recall (Arora et al. 2023, arXiv:2312.04927): a row has
8 keys with their values, and asks for each of them later. Seven mixers between
the same feed-forward networks, at two widths: a recurrence's state grows with
the square of the width, attention's with the text.

  ablax ablate --config=configs/ablations/recall.py

Cost: 42 runs, some 20 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/recall): after a million tokens RWKV-7
recalls all at both widths; attention at 64, and at 32 in two seeds of three;
gated DeltaNet at 64 in two of three, at 32 in one. Mamba-2 has 0.43 at 64 and
0.20 at 32. Linear attention, Based and Hyena name one of the row's values at
random (0.125) or less. Published orders reproduce, but for Based, whose paper
has it above Mamba: what shows here is how soon a mixer learns to recall.
"""

from ablax.configs.lm import toy_task

# Based (Arora et al. 2024, arXiv:2402.18668): a layer of its Taylor features,
# one of exact attention to the nearest tokens.
SEVEN = {
  "attention": {},
  "linear attention": {"model.mixer": "linear_attention"},
  "Based": {
    "model.pattern": ("linear_attention", "sliding_window"),
    "model.opts.linear_attention.feature_map": "taylor",
    "model.opts.sliding_window.window": 8,
  },
  "Hyena": {"model.mixer": "hyena"},
  "Mamba-2": {"model.mixer": "mamba2"},
  "gated DeltaNet": {"model.mixer": "gated_delta_net"},
  "RWKV-7": {"model.mixer": "rwkv7"},
}
# Width -> sizes by which a layer of any recurrence keeps about as much: the
# square of the width.
SIZES = {
  32: {
    "Based": {"model.opts.linear_attention.key_dim": 8},
    "Mamba-2": {"model.opts.mamba2.state": 16},
  },
  64: {
    "Based": {"model.opts.linear_attention.key_dim": 12},
    "Mamba-2": {"model.opts.mamba2.state": 32},
  },
}
# At the rate of the others its filters learn nothing here.
RATES = {"Hyena": {"opt.lr": 1e-3}}


def sized(name, width):
  """The changes of one of SEVEN at a width."""
  more = {**SIZES[width].get(name, {}), **RATES.get(name, {})}
  return {"model.d_model": width, **SEVEN[name], **more}


def get_config():
  config = toy_task.get_config()
  config.steps = 1000
  config.opt.lr = 4e-3
  # Heads of the whole width, as in the paper's code.
  config.model.n_heads = config.model.n_kv_heads = 1
  config.model.max_len = 32
  config.data.task = "mqar"
  config.data.opts.mqar = {"symbols": 64, "n_pairs": 8}
  config.data.seq_len = 32
  return config


def sweep():
  arms = {
    f"{name}, {width}": sized(name, width) for name in SEVEN for width in SIZES
  }
  return {
    "arms": arms,
    "axes": (
      *("model.d_model", "model.head_dim", "model.ff_dim"),
      *("model.pattern", "model.position", "model.opts", "opt.lr"),
    ),
    "baseline": "attention, 64",
    "metric": "heldout/accuracy",
    "goal": "max",
    "seeds": 3,
  }
