"""Addition modulo 97, from half of all pairs: does it generalise?

  python -m ablax.train --config=configs/tasks/modular_addition.py

Cost: 6.1 M tokens, some minutes on 2 CPU cores. Chance is 1/97; the loss in
training falls long before that on pairs not seen.
Seen, at this toy scale, on one H100: accuracy 0.393; 0.514 after 2,750 updates
with batch_size=128 and lr=2e-3, and rising.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 3000
  config.opt.lr = 1e-3
  config.opt.weight_decay = 1.0
  config.data.task = "modular_addition"
  return config
