"""One needle in a haystack, at 64 symbols and at lengths not trained on.

  python -m ablax.train --config=configs/tasks/needle.py

Cost: 3.1 M tokens, some minutes on 2 CPU cores. Chance is 1/16.
Seen, at this toy scale, on one H100: accuracy 1.000, and 1.000
and 0.994 at 128 and 256.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.data.task = "needle"
  config.data.opts.needle = {"eval_lengths": (128, 256)}
  return config
