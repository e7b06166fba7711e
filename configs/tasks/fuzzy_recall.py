"""MAD's fuzzy recall: keys and values of one to three symbols.

  python -m ablax.train --config=configs/tasks/fuzzy_recall.py

Cost: 3.1 M tokens, some minutes on 2 CPU cores. Chance is 1/8.
Seen, at this toy scale: accuracy 0.374, whole rows 0.043; the loss still
falls.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 2500
  config.model.n_heads = 1  # at a guess for longer with more
  config.opt.lr = 2e-3
  config.data.task = "fuzzy_recall"
  config.data.seq_len = 128
  config.data.batch_size = 16
  return config
