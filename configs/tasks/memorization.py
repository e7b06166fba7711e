"""MAD's memorization: 127 facts that only the weights can hold.

  python -m ablax.train --config=configs/tasks/memorization.py

Cost: 0.4 M tokens, a minute on 2 CPU cores.
Seen, at this toy scale: accuracy 1.000 (chance: 1/127).
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 400
  config.data.task = "memorization"
  config.data.seq_len = 32
  return config
