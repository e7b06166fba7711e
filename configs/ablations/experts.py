"""At equal active FLOPs experts need more than a toy's tokens to pay.

A token passes 176 hidden units of each layer in every arm: of one dense
network, of 1 of 8 experts that drops whoever comes late (Switch, Fedus et al.
2021, arXiv:2101.03961), of 2 of 8 without drops (Shazeer et al. 2017,
arXiv:1701.06538), or of 7 of 31 fine-grained ones and a shared one
(DeepSeekMoE, Dai et al. 2024, arXiv:2401.06066).

  ablax ablate --config=configs/ablations/experts.py

Cost: 20 runs, some 10 minutes in all on 2 CPU cores.
Seen, at this toy scale (docs/ablations/experts): after 0.4 million tokens twice
the parameters buy nothing that 5 seeds can tell (+0.018 and +0.030 bits per
byte), and one expert with four times the parameters is worse (+0.114).
"""

from ablax.configs.lm import toy

ACTIVE = 176


def get_config():
  config = toy.get_config()
  assert config.model.ff_dim == ACTIVE
  return config


def _moe(**options):
  said = {f"model.opts.moe.{key}": value for key, value in options.items()}
  return {"model.ffn": "moe", **said}


def sweep():
  return {
    "arms": {
      "dense": {},
      "switch, 1 of 8": _moe(
        n_experts=8,
        top_k=1,
        expert_dim=ACTIVE,
        router="switch",
        capacity_factor=1.25,
      ),
      "2 of 8": _moe(n_experts=8, top_k=2, expert_dim=ACTIVE // 2),
      "7 of 31, 1 shared": _moe(
        n_experts=31, top_k=7, expert_dim=ACTIVE // 8, shared_experts=1
      ),
    },
    "axes": ("model.ffn", "model.opts"),
    "seeds": 5,
  }
