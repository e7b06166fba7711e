"""Trained on rows of 128 tokens, which positions read rows of 2,048?

ALiBi was made to (Press et al. 2022, arXiv:2108.12409); plain RoPE is known not
to. Ways to stretch a model of RoPE change no weight: their arms are the same
training as the baseline's, scored with other angles (`eval.stretch`).

  ablax ablate --config=configs/ablations/length_extrapolation.py
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
  attention = "model.opts.attention"
  return {
    "arms": {
      "rope": {},
      "alibi": {"model.position": "alibi"},
      "t5": {"model.position": "t5"},
      "none": {"model.position": "none"},
      **{f"rope, {word}": {"eval.stretch": word} for word in STRETCHED},
      "rope, log n": {f"{attention}.log_n": TRAINED},
      "rope, window": {
        "model.mixer": "sliding_window",
        "model.opts.sliding_window.window": TRAINED,
      },
    },
    "axes": (
      *("model.position", "model.pattern", "model.opts", "eval.stretch"),
    ),
    "metric": f"heldout/len={max(LENGTHS)}/bits_per_byte",
    "seeds": 3,
  }
