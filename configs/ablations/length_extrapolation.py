"""Trained on rows of 128 tokens, ALiBi reads 2,048 and plain RoPE does not.

ALiBi was made to (Press et al. 2022, arXiv:2108.12409). Ways to stretch a model
of RoPE change no weight: their arms are the same training as the baseline's,
scored with other angles (`eval.stretch`).

  ablax ablate --config=configs/ablations/length_extrapolation.py

Cost: 36 runs, some 15 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/length_extrapolation): as published,
ALiBi is as good at 2,048 as at 128 and RoPE is not. There RoPE is behind a
window by 0.159 bits per byte, ALiBi by 0.150, ReRoPE by 0.122; Llama 3's
scaling, YaRN and both NTK gain 0.036 to 0.048, and linear interpolation, T5, no
positions and log n are not separated from it.
"""

from ablax.configs.lm import toy

TRAINED = 128
LENGTHS = (256, 512, 1024, 2048)
STRETCHED = ("linear", "ntk", "dynamic_ntk", "yarn", "llama3", "rerope")


def get_config():
  config = toy.get_config()
  config.model.max_len = max(LENGTHS)
  config.data.eval_lengths = LENGTHS
  config.eval.every = 0
  return config


def sweep():
  return {
    "arms": {
      "rope": {},
      "alibi": {"model.position": "alibi"},
      "t5": {"model.position": "t5"},
      "none": {"model.position": "none"},
      **{f"rope, {word}": {"eval.stretch": word} for word in STRETCHED},
      "rope, log n": {"model.opts.attention.log_n": TRAINED},
      "rope, window": {
        "model.mixer": "sliding_window",
        "model.opts.sliding_window.window": TRAINED,
      },
    },
    "axes": ("model.position", "model.pattern", "model.opts", "eval.stretch"),
    "metric": f"heldout/len={max(LENGTHS)}/bits_per_byte",
    "seeds": 3,
  }
