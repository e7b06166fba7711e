"""Rows of a task, and what they ask."""

import numpy as np

from ablax.configs import base
from ablax.data.tasks import stream
from ablax.train.config import resolve


def data_of(name, seq_len=64, batch_size=8, **options):
  keys = {f"data.opts.{name}.{k}": v for k, v in options.items()}
  keys |= {"data.task": name, "data.seq_len": seq_len}
  return resolve(
    base.get_config(), {**keys, "data.batch_size": batch_size}
  ).data


def rows_of(data, n, seed=0, seq_len=0):
  task, facts = data.make_task(seq_len), data.task_options.facts
  rows = stream.Rows(data.task, facts, task, seed)
  return [rows[i] for i in range(n)]


def questions(row):
  """(what is read up to an asked slot, in its segment; the answer)."""
  for slot in np.flatnonzero(row.weights):
    segment = row.segment_ids[slot]
    assert segment > 0
    here = np.flatnonzero(row.segment_ids[: slot + 1] == segment)
    yield row.tokens[here].tolist(), int(row.targets[slot])
