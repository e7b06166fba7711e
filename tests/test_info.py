"""`ablax info`: of a run that ended, that goes, that broke, and of several."""

import json
import os
import shutil
import socket

import pytest

from ablax.errors import UserError
from ablax.info import curve, main
from ablax.train import story as stories
from ablax.train.story import differences_from_base, story

PROVES = ("feature:info",)

START = {"event": "start", "step": 0, "steps": 10, "parameters": 1234}


def at(minute, second=0):
  return f"2026-01-02T03:{minute:02}:{second:02}Z"


def run(folder, lines=(), events=(), config=None):
  """A made-up run."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, rows in (("metrics", lines), ("events", events)):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text)
  if config is not None:
    record = {"config": config, "hash": "abc", "code": {"ablax": "0.1"}}
    (folder / "config.json").write_text(json.dumps(record))
  for step, size in ((4, 10), (8, 20)):
    (folder / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints" / str(step) / "x").write_bytes(b"." * size)
  return folder


LINES = [
  {"step": 2, "loss": 4.0, "tokens": 20, "tokens_per_s": 10.0, "time": at(1)},
  {"step": 2, "heldout/loss": 3.0, "heldout/bits_per_byte": 2.0},
  {"step": 4, "loss": 3.0, "tokens": 40, "tokens_per_s": 30.0, "time": at(2)},
  {"step": 4, "heldout/loss": 4.0, "heldout/bits_per_byte": 2.5},
  {"step": 6, "loss": 2.0, "tokens": 60, "tokens_per_s": 20.0, "time": at(3)},
]
HERE = {"pid": os.getpid(), "host": socket.gethostname()}
CONFIG = {"steps": 10, "data": {"batch_size": 2, "seq_len": 5}}


def test_the_numbers_are_those_of_the_files(tmp_path):
  events = [
    {**START, **HERE, "time": at(0)},
    {"event": "warning", "step": 3, "text": "a jump", "time": at(1, 30)},
    {**START, **HERE, "step": 4, "time": at(2, 40)},
    {"event": "stopped", "step": 6, "text": "SIGTERM", "time": at(3, 10)},
  ]
  s = story(run(tmp_path / "r", LINES, events, CONFIG))
  assert s["status"] == "stopped" and s["why"] == "SIGTERM"
  assert (s["step"], s["steps"], s["tokens"]) == (6, 10, 60)
  assert s["planned_tokens"] == 100 and s["parameters"] == 1234
  assert s["tokens_per_s"] == 20 and s["loss"] == 2.0  # median, last
  assert [x["step"] for x in s["heldout"]] == [2, 4]
  assert s["best"]["step"] == 2
  assert s["checkpoints"] == [
    {"step": 4, "bytes": 10},
    {"step": 8, "bytes": 20},
  ]
  assert s["restarts"] == 1 and s["warnings"] == ["step 3: a jump"]
  # 0:00 to the line of 2:00, and 2:40 to the end at 3:10.
  assert s["seconds"] == 120 + 30
  assert s["missing"] == []


def told(tmp_path, *events):
  return story(run(tmp_path / "r", LINES, events, CONFIG))


def test_each_way_to_end_is_told(tmp_path, monkeypatch):
  start = {**START, **HERE, "time": at(0)}
  assert told(tmp_path)["status"] == "unknown"
  assert told(tmp_path, start)["status"] == "running"
  for end in ("finished", "stopped", "diverged", "failed"):
    last = {"event": end, "step": 6, "time": at(4), "text": "why"}
    s = told(tmp_path, start, last)
    assert s["status"] == end and s["why"] == "why"
    assert told(tmp_path, start, last, start)["status"] == "running"
  monkeypatch.setattr(stories, "_alive", lambda pid: False)
  s = told(tmp_path, start)
  assert s["status"] == "killed" and "the same command goes on" in s["why"]
  s = told(tmp_path, {**start, "host": "elsewhere"})
  assert s["status"] == "running" and "on elsewhere; last heard" in s["why"]


@pytest.mark.parametrize("gone", ["config.json", "events.jsonl", "checkpoints"])
def test_a_broken_run_is_told_as_far_as_it_goes(gone, tmp_path, capsys):
  folder = run(
    tmp_path / "r", LINES, [{**START, **HERE, "time": at(0)}], CONFIG
  )
  path = folder / gone
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  assert story(folder)["missing"] == [gone]
  assert main([str(folder)]) == 0
  out = capsys.readouterr().out
  assert gone in out and "2.0000 nats per token" in out


def test_garbage_in_any_file_is_survived(tmp_path, capsys):
  folder = run(tmp_path / "r", LINES, [{**START, **HERE, "time": at(0)}], {})
  for name in ("config.json", "events.jsonl", "metrics.jsonl"):
    for text in ("", "{", "[1, 2]", "null\n", '"text"\n', "\x00\xff"):
      kept = (folder / name).read_bytes()
      (folder / name).write_text(text, encoding="latin-1")
      assert main([str(folder)]) == 0 and main(["--json", str(folder)]) == 0
      (folder / name).write_bytes(kept)
  capsys.readouterr()


def test_a_folder_without_a_run_is_refused(tmp_path):
  for folder in (tmp_path, tmp_path / "none"):
    with pytest.raises(UserError, match="holds no run") as caught:
      main([str(folder)])
    assert "\n" not in str(caught.value)


def test_what_is_no_run_is_left_out_of_a_table(tmp_path, capsys):
  folder = run(tmp_path / "r", LINES, [], CONFIG)
  (tmp_path / "notes.txt").write_text("not a run")
  assert main([str(tmp_path / "notes.txt"), str(folder)]) == 0
  out, err = capsys.readouterr()
  assert "left out:" in err and "notes.txt" in err and "unknown" in out
  with pytest.raises(UserError, match="none of the 2 folders holds a run"):
    main([str(tmp_path / "notes.txt"), str(tmp_path)])


def test_only_what_was_chosen_counts_as_a_change():
  from ablax.configs import base
  from ablax.train.config import resolve

  changes = {
    "model.d_model": 128,  # from which head_dim and ff_dim follow
    "model.n_kv_heads": 2,
    "opt.name": "sgd",  # with options of its own
    "opt.opts.sgd.momentum": 0.5,
    "log.every": 3,
    "model.opts.attention.log_n": 128,  # of what base.py chooses, too
  }
  config = json.loads(json.dumps(resolve(base.get_config(), changes).as_dict()))
  assert differences_from_base(config) == changes
  plain = json.loads(json.dumps(resolve(base.get_config()).as_dict()))
  assert differences_from_base(plain) == {}


def test_the_sources_of_a_real_config_are_told(tmp_path, capsys):
  from ablax.configs import base
  from ablax.train.config import resolve

  mixture = (("stdlib", 2.0, 0.0), ("text:notes", 1.0, 3.0))
  config = resolve(base.get_config(), {"data.mixture": mixture}).as_dict()
  folder = run(tmp_path / "r", LINES, [], config)
  assert story(folder)["source"] == "stdlib, text:notes"
  assert main([str(folder)]) == 0
  assert "stdlib, text:notes  as bpe" in capsys.readouterr().out


def test_the_curve_goes_where_the_points_go():
  falling = curve([(0, 4.0), (1, 0.0)], width=4, height=2)
  # A straight line from the upper left to the lower right dot.
  assert falling == ["⠑⢄⠀⠀", "⠀⠀⠑⢄"]
  assert curve([(0, 1.0), (5, 1.0)], width=2, height=1) == ["⣀⣀"]
  assert curve([(3, 1.0)], width=2, height=1) == ["⣀⣀"]


def test_several_runs_are_a_table_of_what_differs(tmp_path, capsys):
  from ablax.configs import base
  from ablax.train.config import resolve

  start = {**START, **HERE, "time": at(0)}
  folders = []
  for name, lr in (("slow", 1e-4), ("fast", 1e-2)):
    config = resolve(base.get_config(), {"opt.lr": lr, "steps": 10}).as_dict()
    folders.append(str(run(tmp_path / name, LINES, [start], config)))
  assert main(folders) == 0
  out = capsys.readouterr().out
  assert "opt.lr" in out and "0.0001" in out and "0.01" in out
  assert "seed" not in out and out.count("running") == 2
  assert main(["--json", *folders]) == 0
  both = json.loads(capsys.readouterr().out)
  assert [s["name"] for s in both] == ["slow", "fast"]
  assert main(["--json", folders[0]]) == 0
  one = json.loads(capsys.readouterr().out)
  assert one | {"why": ""} == both[0] | {"why": ""}  # it counts the seconds


def test_a_terminal_without_braille_gets_the_numbers(tmp_path, monkeypatch):
  import io

  from rich.console import Console

  from ablax.info import show

  folder = run(
    tmp_path / "r", LINES, [{**START, **HERE, "time": at(0)}], CONFIG
  )
  raw = io.BytesIO()
  out = io.TextIOWrapper(raw, encoding="ascii")
  show(story(folder), Console(file=out, width=80))
  out.flush()
  assert b"2.0000 nats" in raw.getvalue()


def test_costs_are_told_by_part_and_policy(tmp_path, capsys):
  from ablax.configs import base
  from ablax.costs import show_costs
  from ablax.train.config import resolve
  from ablax.train.report import make_console

  changes = {
    "model.d_model": 24,
    "model.n_layers": 2,
    "model.n_heads": 3,
    "model.ff_dim": 40,
    "model.max_len": 16,
    "data.seq_len": 16,
    "data.batch_size": 2,
    "data.tokenizer": "bytes",
  }
  config = resolve(base.get_config(), changes).as_dict()
  folder = run(tmp_path / "r", LINES, [], config)
  with pytest.raises(UserError, match=r"config\.json is not a run"):
    main(["--costs", str(folder)])  # it lacks the vocabulary
  record = json.loads((folder / "config.json").read_text())
  record |= {"vocab_size": 320, "tokenizer": "abc"}
  (folder / "config.json").write_text(json.dumps(record))
  capsys.readouterr()

  assert main(["--costs", "--json", str(folder)]) == 0
  s = json.loads(capsys.readouterr().out)
  costs = s["costs"]
  parts = costs["flops_by_part"]
  assert parts["head"] == {"forward": 2 * 24 * 320, "backward": 4 * 24 * 320}
  total = sum(part["forward"] for part in parts.values())
  assert total == costs["forward_flops"]
  of_run = costs["activations_by_remat"][costs["remat"]]
  assert of_run == costs["activation_bytes"]

  show_costs(s, make_console())
  out = capsys.readouterr().out
  assert "other" not in out  # it has none
  for line in ("head 15.36 k 30.72 k", "in all", "executed", "decode state"):
    assert line in " ".join(out.split())
  state, per_token = costs["decode_state_bytes"], 2 * 4 * (2 * 24 + 2)
  assert (state, costs["decode_bytes_per_token"]) == (16 * per_token + 8, 400)
  assert "6.4 kB at model.max_len, 400 B for each further token" in out
