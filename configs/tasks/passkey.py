"""A pass key of 5 digits in filler, at 64 symbols and at longer rows.

  python -m ablax.train --config=configs/tasks/passkey.py

Cost: 3.1 M tokens, some minutes on 2 CPU cores. Chance is 1/10.
Seen, at this toy scale, on one H100: accuracy 0.999, and 0.809
and 0.491 at 128 and 256.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.data.task = "passkey"
  config.data.opts.passkey = {"eval_lengths": (128, 256)}
  return config
