"""The shape of Llama 2 7B (Touvron et al. 2023, arXiv:2307.09288).

  python -m ablax.train --config=configs/lm/llama_7b.py --dry-run

6,738,415,616 parameters, as published. Cost: 1,000 steps of 4 M tokens, the
paper's batch, on 256 TPU v5p.
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 1000
  config.model.d_model = 4096
  config.model.n_layers = 32
  config.model.n_heads = 32
  config.model.ff_dim = 11008
  config.model.vocab_size = 32000
  config.model.max_len = 4096
  config.model.tie_embeddings = False
  config.model.compute_dtype = "auto"
  config.model.remat = "full"
  config.opt.lr = 3e-4
  config.opt.warmup_steps = 100
  config.data.vocab_size = 32000
  config.data.tokenizer_bytes = 100_000_000
  config.data.seq_len = 4096
  config.data.batch_size = 1024
  config.mesh.data = 1
  config.mesh.fsdp = -1
  return config
