"""Routers of 2 of 8 experts differ in balance more than in loss.

Softmax with a balance loss (Fedus et al. 2021, arXiv:2101.03961) against
sigmoid with a bias in place of the loss (Wang et al. 2024, arXiv:2408.15664),
softmax without either, experts that choose their tokens (Zhou et al. 2022,
arXiv:2202.09368), Sinkhorn's assignment (Clark et al. 2022, arXiv:2202.01169)
and no choice at all, a hash of the token (Roller et al. 2021,
arXiv:2106.04426).

  ablax ablate --config=configs/ablations/routers.py

Cost: 18 runs, some 10 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/routers): 3 seeds separate none of them.
The busiest expert gets 2.6 times its even share without a loss, 1.3 with the
loss or the bias, 1.2 by the hash and by Sinkhorn (`ablax report
docs/ablations/routers --metric=moe/max_load`). Experts that choose see later
tokens of the row, so that their loss flatters them.
"""

from ablax.configs.lm import toy


def get_config():
  config = toy.get_config()
  config.model.ffn = "moe"
  config.model.opts.moe = {"n_experts": 8, "top_k": 2, "expert_dim": 88}
  return config


def _router(word, **options):
  said = {f"model.opts.{word}.{key}": value for key, value in options.items()}
  return {"model.opts.moe.router": word, **said}


def sweep():
  return {
    "arms": {
      "softmax": {},
      "softmax, no loss": _router("softmax", balance_loss=0.0),
      "sigmoid, bias": _router("sigmoid", balance_loss=0.0, bias_rate=0.001),
      "expert choice": _router("expert_choice"),
      "sinkhorn": _router("sinkhorn"),
      "hash": _router("hash"),
    },
    "axes": ("model.opts",),
    "seeds": 3,
  }
