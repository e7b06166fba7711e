"""Dyck language of 8 brackets and depth 5: which one closes?

  python -m ablax.train --config=configs/tasks/dyck.py

Cost: 1.2 M tokens, a few minutes on 2 CPU cores. Chance is 1/8, and a half
where only the bracket before is looked at.
Seen, at this toy scale, on one H100: accuracy 0.979, whole rows 0.520.
"""

from ablax.configs.lm import toy_task


def get_config():
  config = toy_task.get_config()
  config.steps = 600
  config.data.task = "dyck"
  return config
