"""A Llama-style decoder of 32 M parameters, for one GPU of a notebook.

  python -m ablax.train --config=configs/lm/small.py

Cost: 65 M tokens. The precision goes by the device: bfloat16 where there is
one, float16 with loss scaling on a T4, float32 on a CPU. The standard
library's text is small for it; give it your own, as in
--config.data.source=hf:FOLDER or --config.data.source=tfds:NAME.
"""

from ablax.configs import base


def get_config():
  config = base.get_config()
  config.steps = 4000
  config.model.d_model = 512
  config.model.n_layers = 8
  config.model.n_heads = 8
  config.model.n_kv_heads = 4
  config.model.ff_dim = 1376
  config.model.vocab_size = 16384
  config.model.dropout = 0.1
  config.model.compute_dtype = "auto"
  config.opt.lr = 1e-3
  config.opt.warmup_steps = 200
  config.data.vocab_size = 16000
  config.data.tokenizer_bytes = 20_000_000
  config.data.seq_len = 512
  config.data.batch_size = 32
  config.eval.every = 500
  config.checkpoint.every = 500
  return config
