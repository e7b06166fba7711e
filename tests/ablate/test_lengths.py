"""A sweep whose held-out text was scored in rows of several lengths."""

import dataclasses

import records

from ablax.ablate import grids
from ablax.ablate.figures import draw
from ablax.ablate.record import Record
from ablax.ablate.table import tabulate


def made(metric=records.METRIC):
  """Arms whose metric grows by 0.1 and by 0.2 for each doubling past 16."""
  plain = records.record({"adamw": [2.0, 2.1], "lion": [2.2, 2.4]})
  runs = []
  for run in plain.runs:
    rate = 0.1 if run.arm == "adamw" else 0.2
    final = {
      **run.final,
      **{
        f"heldout/len={16 * 2**k}/{name}": run.final[records.METRIC] + k * rate
        for k in range(3)
        # Of a source too, which is another metric.
        for name in ("bits_per_byte", "stdlib/bits_per_byte")
      },
    }
    runs.append(dataclasses.replace(run, final=final))
  facts = dataclasses.replace(plain.facts, metric=metric)
  return Record(facts, tuple(runs))


def test_each_arm_has_its_metric_at_each_length():
  for metric in (records.METRIC, "heldout/len=64/bits_per_byte"):
    record = made(metric)
    table = tabulate(record)
    assert table.plain_metric == records.METRIC
    found = {
      row.arm: {n: round(s.mean, 9) for n, s in row.at_lengths.items()}
      for row in table.rows
    }
    assert found == {
      "adamw": {16: 2.05, 32: 2.15, 64: 2.25},
      "lion": {16: 2.3, 32: 2.5, 64: 2.7},
    }
    grid = grids.by_length(table)
    assert grid.columns == ("arm", "16 tokens", "32 tokens", "64 tokens")
    assert grid.rows[1][1].startswith("2.300 ± ")
    assert "lengths" in draw(table, record)


def test_a_sweep_of_one_length_has_no_such_table_or_figure():
  record = records.record({"adamw": [2.0, 2.1], "lion": [2.2, 2.4]})
  table = tabulate(record)
  assert grids.by_length(table) is None
  assert "lengths" not in draw(table, record)
