"""Multi-query associative recall: 8 pairs of 128 keys and 128 values.

  python -m ablax.train --config=configs/tasks/mqar.py

Cost: 2.6 M tokens, a few minutes on 2 CPU cores (4 on busy ones).
Seen, at this toy scale: accuracy 0.996, whole rows 0.971 (chance: 1/128; one of
the row's eight values at random: 1/8, where it stays for 800 updates).
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 2500
  config.data.task = "mqar"
  config.data.opts.mqar = {"symbols": 256, "n_pairs": 8}
  config.data.seq_len = 32
  return config
