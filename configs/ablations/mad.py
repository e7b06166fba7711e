"""MAD's tasks each ask of a mixer to keep another thing, and tell them apart.

Six synthetic tasks (Poli et al. 2024, arXiv:2403.17844) as configs/tasks/ have
them, and the arms of configs/ablations/recall.py: seven mixers at two widths.

  ablax ablate --config=configs/ablations/mad.py:memorization

The others are compression, fuzzy_recall, in_context_recall, noisy_recall and
selective_copying.

Cost: 42 runs a task, in all 9 minutes of memorization on 2 CPU cores; --dry-run
estimates 12 to 50 of the others.
Seen, at this toy scale (docs/ablations/mad_memorization): the weights of all
hold the 127 facts after 0.4 million tokens, but of linear attention not at 32
(0.829) nor at 64 (0.957).
"""

import importlib

from ablax.configs.ablations.recall import sweep
from ablax.errors import UserError, nearest

TASKS = (
  *("compression", "fuzzy_recall", "in_context_recall", "memorization"),
  *("noisy_recall", "selective_copying"),
)

__all__ = ["get_config", "sweep"]


def get_config(task="memorization"):
  if task not in TASKS:
    raise UserError(f"{task!r} is no task of MAD's{nearest(task, TASKS)}")
  config = importlib.import_module(f"ablax.configs.tasks.{task}").get_config()
  config.model.n_heads = config.model.n_kv_heads = 1
  return config
