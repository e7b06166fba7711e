"""The smallest decoder on a synthetic task: what configs/tasks/ start from.

  python -m ablax.train --config=configs/lm/toy_task.py

Cost: a few minutes on 2 CPU cores.
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 1500
  config.model.d_model = 64
  config.model.n_layers = 2
  config.model.n_heads = 4
  # Symbols that are asked and symbols that answer are often not the same ones.
  config.model.tie_embeddings = False
  config.opt.lr = 4e-3
  config.opt.weight_decay = 0.0
  config.opt.warmup_steps = 50
  config.data.task = "induction_heads"
  config.data.seq_len = 64
  config.data.batch_size = 32
  return config
