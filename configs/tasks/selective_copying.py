"""MAD's selective copying: 8 symbols among blanks, in their order.

  python -m ablax.train --config=configs/tasks/selective_copying.py

Cost: 2.0 M tokens, a few minutes on 2 CPU cores. Chance is 1/14.
Seen, at this toy scale, on one H100: accuracy 0.981, whole rows
0.873.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 1000
  config.data.task = "selective_copying"
  config.data.opts.selective_copying = {"n_copied": 8}
  return config
