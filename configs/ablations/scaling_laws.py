"""Held-out loss follows L(N, D) = E + A / N^alpha + B / D^beta.

The law of Chinchilla (Hoffmann et al. 2022, arXiv:2203.15556): 4 sizes times 4
numbers of tokens, each with its own learning-rate schedule. The report has the
fit with bootstrap intervals (approach 3), the compute-optimal exponents from
the envelope of the learning curves (approach 1), and a fit without the largest
run, which that fit then has to predict.

  ablax ablate --config=configs/ablations/scaling_laws.py

Cost: 17 runs, 5 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/scaling_laws): the largest run has 3.428
nats per token, and the fit to the smaller ones predicts 3.327 [3.15, 3.52]. The
compute-optimal N grows as C^0.22 [0.11, 0.54] by approach 3 and as C^0.56
[0.26, 0.64] by approach 1: 17 runs do not tell more.
"""

from ablax.configs.lm import toy


def get_config():
  config = toy.get_config()
  config.model.residual = "parallel"  # the best of norm_placement.py
  config.model.ff_dim = 0  # 8/3 of the width
  config.opt.warmup_steps = 20
  config.eval.every = 0
  config.log.every = 10
  return config


def sweep():
  return {
    "grid": {
      "model.d_model": (32, 48, 64, 96, 128),
      "steps": (100, 200, 400, 800),
    },
    # The largest width trains once: it is what the others have to predict.
    "where": lambda arm: arm["model.d_model"] < 128 or arm["steps"] == 800,
    "axes": ("model.head_dim", "model.ff_dim"),
    "baseline": "d_model=64 steps=400",
    "metric": "heldout/loss",
    "fit": "scaling",
    "seeds": 1,
  }
