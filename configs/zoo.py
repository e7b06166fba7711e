"""A published architecture, by name.

  python -m ablax.train --config=configs/zoo.py:llama2_7b --dry-run

models/zoo/ has the names; without one it is GPT-2's smallest. All but the model
is as in configs/base.py, so cost is for you to say: steps, batch, mesh, and a
tokenizer of the model's size.
"""

from ablax.configs import base
from ablax.models.zoo import architecture


def get_config(name: str = "gpt2_124m"):
  config = base.get_config()
  options = config.model.opts
  for key, value in architecture(name).items():
    key = key.removeprefix("model.")
    if key.startswith("opts."):
      _, entry, option = key.split(".")
      options[entry] = {**options.get(entry, {}), option: value}
    else:
      config.model[key] = value
  config.model.compute_dtype = "auto"
  config.model.remat = "full"
  config.data.seq_len = min(config.model.max_len, 4096)
  return config
