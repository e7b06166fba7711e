"""The shape of Llama 3.2 1B (Grattafiori et al. 2024, arXiv:2407.21783).

  python -m ablax.train --config=configs/lm/llama_1b.py --dry-run

1,235,814,400 parameters, as published. Cost: 1,000 steps of 0.5 M tokens on 16
TPU v5e; a plan of any other mesh is printed with --dry-run.
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 1000
  config.model.d_model = 2048
  config.model.n_layers = 16
  config.model.n_heads = 32
  config.model.n_kv_heads = 8
  config.model.ff_dim = 8192
  config.model.vocab_size = 128256
  config.model.max_len = 4096
  config.model.opts.rope = {"rope_theta": 5e5}
  config.model.compute_dtype = "auto"
  config.model.remat = "full"
  config.opt.lr = 3e-4
  config.opt.warmup_steps = 100
  config.data.vocab_size = 32000
  config.data.tokenizer_bytes = 100_000_000
  config.data.seq_len = 4096
  config.data.batch_size = 128
  config.mesh.data = 1
  config.mesh.fsdp = -1
  return config
