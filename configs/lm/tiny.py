"""A Llama-style decoder on real text, on a laptop CPU.

  python -m ablax.train --config=configs/lm/tiny.py

Cost: under 3 minutes on 2 CPU cores, after a set-up of about a minute (the
tokenizer is trained and the text packed, once).
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 1200
  config.model.d_model = 128
  config.model.n_layers = 4
  config.model.n_heads = 4
  config.model.n_kv_heads = 2
  config.model.ff_dim = 352
  config.opt.lr = 3e-3
  config.opt.warmup_steps = 60
  config.data.batch_size = 4
  config.eval.every = 300
  config.checkpoint.every = 300
  return config
