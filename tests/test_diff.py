"""`ablax diff`: what two runs differ in, config and result."""

import json
import pathlib

import pytest

from ablax.diff import compare, main
from ablax.errors import UserError

PROVES = ("feature:diff",)

CONFIG = {
  "seed": 0,
  "opt": {"name": "adamw", "lr": 0.001, "opts": {"adamw": {"b2": 0.95}}},
  "data": {"mixture": [["stdlib", 1.0, 0.0]], "batch_size": 2, "seq_len": 5},
}
OTHER = {
  **CONFIG,
  "opt": {"name": "lion", "lr": 0.001, "opts": {"lion": {"b2": 0.99}}},
}
CODE = {"ablax": "0.1", "commit": "abc", "dirty": "false", "jax": "0.10.2"}


def run(folder, losses, config=CONFIG, code=CODE, data="d1", heldout=2.0):
  """A made-up run of ten updates or fewer."""
  folder.mkdir(parents=True)
  told = {
    "config": config,
    "hash": json.dumps(config)[-40:],
    "code": code,
    "data_fingerprint": data,
    "tokenizer": "t",
    "vocab_size": 300,
  }
  (folder / "config.json").write_text(json.dumps(told))
  lines = [{"step": s, "loss": x, "tokens": 10 * s} for s, x in losses.items()]
  lines.append({"step": max(losses), "heldout/bits_per_byte": heldout})
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metrics.jsonl").write_text(text)
  moment = {"time": "2026-01-02T03:00:00Z", "host": "h", "pid": 1}
  events = [
    {"event": "start", "step": 0, "steps": 3, "parameters": 1000, **moment},
    {"event": "finished", "step": max(losses), **moment},
  ]
  text = "".join(json.dumps(line) + "\n" for line in events)
  (folder / "events.jsonl").write_text(text)
  return folder


# The second number and its neighbour in float64.
LOSSES = {1: 5.0, 2: 0.1, 3: 3.0}
BIT = {1: 5.0, 2: 0.10000000000000002, 3: 2.5}


def test_each_key_that_differs_is_shown_with_both_values(tmp_path):
  a = run(tmp_path / "a", LOSSES)
  b = run(tmp_path / "b", LOSSES, OTHER, {**CODE, "commit": "def"}, "d2")
  found = compare(a, b)
  assert found["config"] == {
    "opt.name": ["adamw", "lion"],
    "opt.opts.adamw.b2": [0.95, "(absent)"],
    "opt.opts.lion.b2": ["(absent)", 0.99],
  }
  assert found["code"] == {"commit": ["abc", "def"]}
  assert found["data"] == {"data_fingerprint": ["d1", "d2"]}


def test_one_and_true_are_two_values(tmp_path):
  a = run(tmp_path / "a", LOSSES, {**CONFIG, "x": 1, "y": 1.0})
  b = run(tmp_path / "b", LOSSES, {**CONFIG, "x": True, "y": 1})
  assert set(compare(a, b)["config"]) == {"x", "y"}


def test_a_run_and_itself_differ_in_nothing(tmp_path, capsys):
  a = run(tmp_path / "a", LOSSES)
  found = compare(a, a)
  assert not (found["config"] or found["code"] or found["data"])
  assert found["losses"] == {
    "steps_in_common": 3,
    "last_equal": 3,
    "first_different": None,
  }
  assert main([str(a), str(a)]) == 0
  out = capsys.readouterr().out
  assert "config: the same" in out
  assert "the same bits in all 3 updates" in out


def test_losses_part_at_the_first_bit(tmp_path, capsys):
  a, b = run(tmp_path / "a", LOSSES), run(tmp_path / "b", BIT)
  assert compare(a, b)["losses"]["first_different"] == 2
  assert main([str(a), str(b)]) == 0
  out = capsys.readouterr().out
  assert "first differ at update 2; the same bits until 1" in out
  apart = run(tmp_path / "c", {7: 1.0})
  assert main([str(a), str(apart)]) == 0
  assert "no update is in both logs" in capsys.readouterr().out


def test_results_stand_side_by_side(tmp_path, capsys):
  a = run(tmp_path / "deep" / "a", LOSSES, heldout=2.0)
  b = run(tmp_path / "deep" / "b", BIT, OTHER, heldout=1.5)
  found = compare(a, b)
  assert found["metrics"] == {
    "heldout/bits_per_byte": [2.0, 1.5],
    "loss": [3.0, 2.5],
  }
  assert found["facts"]["parameters"] == [1000, 1000]
  assert found["facts"]["tokens"] == [30, 30]
  assert "training FLOPs" not in found["facts"]
  assert main([str(a), str(b)]) == 0
  out = capsys.readouterr().out
  rows = {
    line.split("│")[1].strip(): [x.strip() for x in line.split("│")[2:-1]]
    for line in out.splitlines()
    if line.startswith("│")
  }
  assert rows["heldout/bits_per_byte"] == ["2", "1.5", "-0.5 (-25.00 %)"]
  assert rows["parameters"] == ["1,000", "1,000", "equal"]
  assert rows["opt.name"] == ["adamw", "lion"]
  assert str(tmp_path) not in out  # what both paths share says nothing


def test_flops_are_those_of_the_sweeps_record(tmp_path):
  import dataclasses

  from ablax.ablate.record import Facts, Record, Run, write

  a = run(tmp_path / "adamw" / "seed-0", LOSSES)
  b = run(tmp_path / "lion" / "seed-0", LOSSES, OTHER)
  plain = {str: "", int: 0, float: 0.0}
  fields = {f.name: plain.get(f.type, {}) for f in dataclasses.fields(Run)}
  runs = tuple(
    Run(**{**fields, "train_flops": flops, "workdir": f"{arm}/seed-0"})
    for arm, flops in (("adamw", 6e9), ("lion", 7e9))
  )
  facts = {
    f.name: {tuple: (), float: 0.05, str: ""}.get(f.type, {})
    for f in dataclasses.fields(Facts)
  }
  for name in ("arms", "axes", "seeds", "notes"):
    facts[name] = ()
  write(Record(Facts(**facts), runs), tmp_path)
  assert compare(a, b)["facts"]["training FLOPs"] == [6e9, 7e9]
  (tmp_path / "runs.parquet").write_bytes(b"PAR1")
  assert "training FLOPs" not in compare(a, b)["facts"]


def test_json_is_what_was_compared(tmp_path, capsys):
  a, b = run(tmp_path / "a", LOSSES), run(tmp_path / "b", BIT, OTHER)
  assert main(["--json", str(a), str(b)]) == 0
  assert json.loads(capsys.readouterr().out) == compare(a, b)


def test_a_plugin_of_another_text_is_told(tmp_path, capsys):
  a, b = run(tmp_path / "a", LOSSES), run(tmp_path / "b", LOSSES)
  file = pathlib.Path(b / "config.json")
  file.write_text(json.dumps({**json.loads(file.read_text()), "hash": "x"}))
  assert main([str(a), str(b)]) == 0
  assert "another text of a plugin" in capsys.readouterr().out


def test_what_is_no_run_is_refused(tmp_path):
  a = run(tmp_path / "a", LOSSES)
  for other in (tmp_path / "none", tmp_path):
    with pytest.raises(UserError, match="holds no run"):
      main([str(a), str(other)])
