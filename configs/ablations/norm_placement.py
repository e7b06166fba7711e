"""Norms before the sublayers train better than norms after them.

Pre-norm (Xiong et al. 2020, arXiv:2002.04745) against post-norm, norms on both
sides (Ding et al. 2021, arXiv:2105.13290) and sublayers side by side, at one
learning rate.

  ablax ablate --config=configs/ablations/norm_placement.py

Cost: 20 runs, 3 to 4 minutes in all on 2 CPU cores.
Seen, at this toy scale of two layers (docs/ablations/norm_placement): post-norm
is not separated from pre-norm; sublayers side by side are better by 0.037 bits
per byte; norms on both sides are worse by 0.123.
"""

from ablax.configs.lm import toy


def get_config():
  return toy.get_config()


def sweep():
  return {
    "arms": {
      "pre": {},
      "post": {"model.residual": "post"},
      "sandwich": {"model.residual": "sandwich"},
      "parallel": {"model.residual": "parallel"},
    },
    "axes": ("model.residual",),
    "seeds": 5,
  }
