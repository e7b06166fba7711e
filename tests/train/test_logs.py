"""What a run writes as it goes, and W&B as one of its sinks."""

import json
import sys
import time
import types

import pytest

from ablax.errors import UserError
from ablax.train.logs import (
  JsonLines,
  Logs,
  Sink,
  TensorBoard,
  numbers,
  read_lines,
)
from ablax.train.loop import train
from ablax.train.weights_and_biases import WandB, find_wandb
from ablax.train.workdir import claim

PROVES = ("feature:wandb",)


def test_every_sink_has_the_same_shape(tmp_path):
  file = JsonLines(tmp_path / "a.jsonl", 0)
  events = TensorBoard(tmp_path / "tensorboard", 0)
  assert isinstance(file, Sink) and isinstance(events, Sink)
  assert issubclass(WandB, Sink)
  file.close()
  events.close()


def test_logs_pass_everything_on_and_names_are_nested_with_slashes(tmp_path):
  class Kept:
    def __init__(self):
      self.seen = []

    def write(self, step, metrics):
      self.seen.append((step, dict(numbers(metrics))))

    def flush(self):
      self.seen.append("flush")

    def close(self):
      self.seen.append("close")

  kept = Kept()
  logs = Logs(tmp_path, 0, [kept])
  logs.write(1, {"loss": 2.0, "batch": "ab"})
  logs.write_detail(1, {"rms": {"layers/0/stream": 3.0}})
  logs.flush()
  logs.close()
  assert kept.seen == [
    (1, {"loss": 2.0}),
    (1, {"detail/rms/layers/0/stream": 3.0}),
    "flush",
    "close",
  ]
  assert read_lines(tmp_path / "detail.jsonl") == [
    {"step": 1, "rms": {"layers/0/stream": 3.0}}
  ]


def test_details_after_the_restored_step_are_dropped_too(tmp_path):
  for _ in range(2):
    logs = Logs(tmp_path, 1)
    for step in (1, 2, 3) if not read_lines(tmp_path / "detail.jsonl") else ():
      logs.write_detail(step, {"rms": {}})
    logs.close()
  steps = [x["step"] for x in read_lines(tmp_path / "detail.jsonl")]
  assert steps == [1]


def test_what_is_not_finite_is_null(tmp_path):
  lines = JsonLines(tmp_path / "a.jsonl", 0)
  lines.write(1, {"a": float("inf"), "b": {"c": float("nan"), "d": 1.5}})
  lines.close()
  text = (tmp_path / "a.jsonl").read_text()
  assert json.loads(text) == {"step": 1, "a": None, "b": {"c": None, "d": 1.5}}


def payloads(data):
  """The records of a .wandb file: LevelDB's log format after 7 bytes."""
  assert data.startswith(b":W&B")
  at, record = 7, b""
  while at < len(data):
    left = 32768 - at % 32768
    if left < 7:  # no header begins in the last bytes of a block
      at += left
      continue
    length = int.from_bytes(data[at + 4 : at + 6], "little")
    kind = data[at + 6]  # 1 whole, 2 first, 3 middle, 4 last
    record += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):
      yield record
      record = b""


def records(folder):
  """(run ids, rows of numbers) in each of W&B's own files, in order."""
  from wandb.proto import wandb_internal_pb2

  parts = []
  for file in sorted(folder.rglob("*.wandb")):
    rows, ids = [], set()
    for data in payloads(file.read_bytes()):
      record = wandb_internal_pb2.Record()
      record.ParseFromString(data)
      if record.HasField("run"):
        ids.add((record.run.run_id, record.run.project))
      if record.HasField("history"):
        row = {
          "/".join(i.nested_key) or i.key: json.loads(i.value_json)
          for i in record.history.item
        }
        rows.append(row)
    parts.append((ids, rows))
  return parts


def whole_records(folder):
  """As `records`, once W&B's own process has written what it was given."""
  for _ in range(100):
    parts = records(folder)
    if all(ids and rows for ids, rows in parts):
      break
    time.sleep(0.2)
  return parts


def test_wandb_offline_has_the_numbers_and_a_restart_keeps_its_id(
  small, tmp_path, monkeypatch, capsys
):
  pytest.importorskip("wandb")
  monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
  workdir = tmp_path / "run"
  config = small(steps=2, log__wandb="offline", log__project="mine")
  assert config.hash == small(steps=2).hash
  train(config, workdir)
  said = capsys.readouterr()
  assert "upload with wandb sync" in said.out
  assert "not available" not in said.out + said.err
  lines = read_lines(workdir / "metrics.jsonl")
  ((ids, rows),) = whole_records(workdir / "wandb")
  name = (workdir / "wandb_id").read_text()
  assert ids == {(name, "mine")} and name.startswith(config.hash)
  assert len(rows) == len(lines)
  for row, line in zip(rows, lines, strict=True):
    for key, value in line.items():
      if not isinstance(value, str):
        assert row[key] == pytest.approx(value, rel=1e-12), key
  again = WandB(workdir, config.log)
  again.write(3, {"loss": 1.0})
  again.close()
  parts = whole_records(workdir / "wandb")
  assert [part[0] for part in parts] == [ids, ids]
  assert parts[-1][1][0]["loss"] == 1.0 and parts[-1][1][0]["step"] == 3


@pytest.mark.parametrize("there", [None, types.ModuleType("wandb")])
def test_without_the_package_it_says_how_to_get_it(
  there, small, tmp_path, monkeypatch
):
  """None: not installed; an empty one: a folder that is called wandb."""
  monkeypatch.setitem(sys.modules, "wandb", there)
  with pytest.raises(UserError, match="pip install wandb") as caught:
    find_wandb("offline")
  assert "\n" not in str(caught.value)
  with pytest.raises(UserError, match="pip install wandb"):
    train(small(log__wandb="online"), tmp_path / "run")
  assert not list(tmp_path.iterdir())


def test_wandb_that_refuses_is_one_line(small, tmp_path, monkeypatch):
  wandb = pytest.importorskip("wandb")

  def init(**_):
    raise wandb.errors.UsageError("No API key configured.\nMore of it.")

  monkeypatch.setattr(wandb, "init", init)
  config = small(log__wandb="online")
  facts = {"vocab_size": 320, "tokenizer": "", "data_fingerprint": ""}
  claim(tmp_path, config, facts, print)
  with pytest.raises(UserError) as caught:
    WandB(tmp_path, config.log)
  message = str(caught.value)
  assert "No API key configured.; log in with: wandb login" in message
  assert "\n" not in message and "log.wandb=offline" in message


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"log__wandb": "ofline"}, "log.wandb='ofline' is not one of online, off"),
    ({"log__project": ""}, "log.project='' names no project"),
  ],
)
def test_a_word_that_is_none_is_refused(small, change, message):
  with pytest.raises(UserError) as caught:
    small(**change)
  assert message in str(caught.value)
