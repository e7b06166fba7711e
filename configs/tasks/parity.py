"""Parity of 16 bits, at the end.

  python -m ablax.train --config=configs/tasks/parity.py

Cost: 1.6 M tokens, a few minutes on 2 CPU cores. Chance is 1/2, at which
attention without depth is expected to stay.
Seen, at this toy scale, on one H100: accuracy 0.520.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.opt.lr = 2e-3
  config.data.task = "parity"
  config.data.seq_len = 17
  config.data.batch_size = 64
  return config
