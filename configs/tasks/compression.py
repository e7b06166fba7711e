"""MAD's compression: 16 symbols, then each asked by its place.

  python -m ablax.train --config=configs/tasks/compression.py

Cost: 1.1 M tokens, a few minutes on 2 CPU cores. Chance is 1/15.
Seen, at this toy scale, on one H100: accuracy 0.943, whole rows 0.223.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 1000
  config.data.task = "compression"
  config.data.seq_len = 33
  return config
