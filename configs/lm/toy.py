"""The smallest decoder that learns text: what toy ablations start from.

  python -m ablax.train --config=configs/lm/toy.py

Cost: about 20 s on 2 CPU cores, set-up not counted. A result at this scale
says that a comparison works, not that it holds for large models.
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 400
  config.model.d_model = 64
  config.model.n_layers = 2
  config.model.n_heads = 4
  config.model.ff_dim = 176
  config.model.max_len = 256
  config.opt.lr = 1e-2
  config.opt.warmup_steps = 40
  config.data.vocab_size = 1024
  config.data.seq_len = 128
  config.data.batch_size = 8
  config.eval.every = 100
  config.eval.prompts = ()
  config.checkpoint.every = 100
  config.log.every = 20
  return config
