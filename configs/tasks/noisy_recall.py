"""MAD's noisy recall: among pairs of symbols that mean nothing.

  python -m ablax.train --config=configs/tasks/noisy_recall.py

Cost: 5.1 M tokens, some minutes on 2 CPU cores. Chance is 1/8.
Seen, at this toy scale: accuracy 0.994, whole rows 0.908.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 2500
  config.model.n_heads = 1  # at a guess for longer with more
  config.opt.lr = 2e-3
  config.data.task = "noisy_recall"
  return config
