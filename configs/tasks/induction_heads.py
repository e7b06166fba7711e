"""Induction heads: a random block of symbols, over and over.

  python -m ablax.train --config=configs/tasks/induction_heads.py

Cost: 0.6 M tokens, a minute or two on 2 CPU cores.
Seen, at this toy scale: accuracy 0.999, whole rows 0.988 (chance: 1/16).
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 600
  config.opt.lr = 2e-3
  config.data.task = "induction_heads"
  config.data.opts.induction_heads = {"symbols": 16}
  config.data.seq_len = 32
  return config
