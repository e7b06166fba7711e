"""The figure of a metric against a number that arms vary."""

import dataclasses

import records

from ablax.ablate.figures import draw
from ablax.ablate.record import Record
from ablax.ablate.sensitivity import lines_of
from ablax.ablate.table import tabulate

BASE = {"opt.lr": 0.01, "opt.name": "adamw"}
# Arm -> (what it changes, metric of each seed).
ARMS = {
  "adamw 0.01": ({}, [2.0, 2.1]),
  "adamw 0.1": ({"opt.lr": 0.1}, [3.0, 3.1]),
  "adamw 0.001": ({"opt.lr": 0.001}, [2.5, 2.4]),
  "lion 0.001": ({"opt.name": "lion", "opt.lr": 0.001}, [2.2, 2.3]),
  "lion 0.01": ({"opt.name": "lion"}, [2.6, 2.7]),
}


def table(arms=ARMS, **fields):
  plain = records.record({a: v for a, (_, v) in arms.items()}, **fields)
  runs = (
    dataclasses.replace(run, changes=arms[run.arm][0]) for run in plain.runs
  )
  record = Record(plain.facts, tuple(runs))
  return tabulate(record), record


def test_arms_that_differ_in_one_number_alone_are_a_line_in_its_order():
  (name, points), *more = lines_of(table(base=BASE)[0], "opt.lr").items()
  assert name == "adamw" and not more  # of lion there are two points only
  assert [x for x, _ in points] == [0.001, 0.01, 0.1]
  assert [row.summary.mean for _, row in points] == [2.45, 2.05, 3.05]
  assert not lines_of(table(base=BASE)[0], "opt.name")


def test_an_arm_without_a_finished_run_is_no_point():
  made, record = table(base=BASE)
  runs = (
    dataclasses.replace(run, status="diverged", final={})
    if run.arm == "adamw 0.1"
    else run
    for run in record.runs
  )
  lost = tabulate(Record(record.facts, tuple(runs)))
  assert lines_of(made, "opt.lr") and not lines_of(lost, "opt.lr")


def test_what_the_solver_chose_is_no_difference():
  arms = {
    f"vocab_size={v}": ({"data.vocab_size": v, "steps": 1000 // v}, [2.0, 2.0])
    for v in (2, 4, 8)
  }
  base = {"data.vocab_size": 1, "steps": 1000}
  assert not lines_of(table(arms, base=base)[0], "data.vocab_size")
  solved = {
    arm: {"steps": changes["steps"]} for arm, (changes, _) in arms.items()
  }
  made, _ = table(arms, base=base, solved=solved)
  (line,) = lines_of(made, "data.vocab_size").values()
  assert [x for x, _ in line] == [2, 4, 8]


def test_the_figure_is_drawn_where_there_is_a_line_and_only_there():
  made, record = table(base=BASE)
  assert "sensitivity" in draw(made, record)
  made, record = table()
  assert "sensitivity" not in draw(made, record)
