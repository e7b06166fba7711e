"""The record of a sweep: written whole, read back, merged where it may be."""

import csv
import dataclasses
import json
import math
import os
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import METRIC, changed, each, facts, record, run

from ablax.ablate import code as codes
from ablax.ablate import result, worker
from ablax.ablate.merge import merge
from ablax.ablate.record import TIMINGS, Record, read, write
from ablax.configs import base
from ablax.errors import UserError
from ablax.train.config import resolve


def full():
  """A record with all that is odd in it."""
  r = record(solved={"lion": {"model.ff_dim": 320}}, notes=("a note",))
  r = changed(r, "lion", 1, status="diverged", error='nan, "at" 3', final={})
  odd = {"opt.betas": [0.9, 0.95], "数": None, "model.tie": True}
  return changed(r, "lion", 2, changes=odd, curves={})


def test_what_is_written_is_read_back(tmp_path):
  write(full(), tmp_path)
  assert read(tmp_path) == full()
  # Without those notes of arrow's that only it can read.
  again = read(str(tmp_path))
  write(again, tmp_path / "deep" / "er")
  assert read(tmp_path / "deep" / "er") == full()


def test_a_metric_that_was_no_number_is_nan(tmp_path):
  broken = {METRIC: math.nan, "loss": math.inf}
  write(changed(record(), "lion", 0, final=broken), tmp_path)
  final = read(tmp_path).runs[3].final
  assert math.isnan(final[METRIC]) and final["loss"] == math.inf
  with (tmp_path / "runs.csv").open() as stream:
    rows = list(csv.DictReader(stream))
  assert json.loads(rows[3]["final"]) == {METRIC: None, "loss": None}


def test_a_result_is_json_and_what_was_no_number_comes_back_as_nan(tmp_path):
  odd = {METRIC: math.nan, "loss": math.inf}
  curves = {"loss": ((10, 3.0), (20, math.nan))}
  result.write_result(tmp_path, run(final=odd, curves=curves))

  def no_word_for_it(text):
    raise AssertionError(text)

  text = (tmp_path / result.FILE).read_text(encoding="utf-8")
  json.loads(text, parse_constant=no_word_for_it)
  again = result.read_result(tmp_path / result.FILE)
  assert math.isnan(again.final[METRIC]) and math.isnan(again.final["loss"])
  assert again.curves["loss"][0] == (10, 3.0)
  assert math.isnan(again.curves["loss"][1][1])
  result.write_result(tmp_path, run())
  assert result.read_result(tmp_path / result.FILE) == run()


def test_the_time_of_a_program_is_shared_out_after_a_restart_too(
  tmp_path, monkeypatch
):
  told = {"restarts": 1, "seconds": 60, "status": "finished"}
  config = resolve(base.get_config(), {"data.tokenizer": "bytes"})
  ran = {"config": config.as_dict(), "hash": "", "tokenizer": ""}
  ran["vocab_size"] = 259
  monkeypatch.setattr(result, "story", lambda workdir: told)
  monkeypatch.setattr(result, "read_run", lambda workdir: ran)
  facts = {"arm": "a", "seed": 0, "place": "a/0", "changes": {}}
  made = result.make_result(tmp_path, **facts, seconds=3.0, together=4)
  assert made.seconds == 15.0


def test_a_run_that_went_on_with_other_code_has_both(tmp_path, monkeypatch):
  place, group = tmp_path / "run", tmp_path / "group"

  def trained_by(code):
    monkeypatch.setattr(codes, "code_version", lambda: code)
    worker.note_code(place, group)
    return result.codes(place)

  assert trained_by("one") == ["one"]
  assert trained_by("two") == ["two"]  # nothing had been saved
  (place / "checkpoints/20").mkdir(parents=True)
  assert trained_by("two") == ["two"]
  assert trained_by("three") == ["two", "three"]


def test_others_read_both_files_without_us(tmp_path):
  write(full(), tmp_path)
  table = pq.read_table(tmp_path / "runs.parquet")
  told = json.loads(table.schema.metadata[b"ablax"])
  assert told["claim"] == full().facts.claim and told["alpha"] == 0.05
  with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as stream:
    lines = list(csv.DictReader(stream))
  rows = table.to_pylist()
  names = [field.name for field in dataclasses.fields(type(run()))]
  assert table.column_names == list(lines[0]) == names
  assert len(lines) == len(rows) == 6
  for ours, row, line in zip(full().runs, rows, lines, strict=True):
    assert row["seed"] == int(line["seed"]) == ours.seed
    assert row["error"] == line["error"] == ours.error
    assert row["train_flops"] == float(line["train_flops"]) == ours.train_flops
    assert dict(row["final"]) == json.loads(line["final"]) == ours.final
    assert json.loads(row["changes"]) == json.loads(line["changes"])
    points = dict(row["curves"]).get("loss", [])
    pairs = [[p["step"], p["value"]] for p in points]
    assert pairs == json.loads(line["curves"]).get("loss", [])
    assert pairs == [list(p) for p in ours.curves.get("loss", ())]


def files(folder):
  return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}


def test_equal_records_give_equal_bytes_whatever_the_order(tmp_path):
  write(full(), tmp_path / "a")
  runs = list(full().runs)
  random.Random(1).shuffle(runs)
  turned = [
    dataclasses.replace(
      r,
      final=dict(reversed(r.final.items())),
      curves=dict(reversed(r.curves.items())),
      changes=dict(reversed(r.changes.items())),
    )
    for r in runs
  ]
  write(Record(full().facts, tuple(turned)), tmp_path / "b")
  assert files(tmp_path / "a") == files(tmp_path / "b")
  assert set(files(tmp_path / "a")) == {"runs.parquet", "runs.csv"}


def test_only_the_columns_of_timings_differ_between_executions(tmp_path):
  write(full(), tmp_path / "a")
  slow = each(full(), seconds=99.5, tokens_per_s=1.0, peak_bytes=7)
  write(slow, tmp_path / "b")
  a, b = (pq.read_table(tmp_path / x / "runs.parquet") for x in "ab")
  differ = {n for n in a.column_names if a[n] != b[n]}
  assert differ == set(TIMINGS)
  assert a.schema.equals(b.schema, check_metadata=True)


def test_a_write_that_is_cut_off_leaves_the_old_record(tmp_path, monkeypatch):
  write(record(), tmp_path)
  before = files(tmp_path)

  def full_disk(self, data):
    with self.open("wb") as stream:
      stream.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", full_disk)
  with pytest.raises(OSError, match="No space"):
    write(full(), tmp_path)
  assert files(tmp_path) == before


def test_a_folder_of_fsspec_is_as_good_as_a_local_one():
  place = f"memory://records-{os.getpid()}/deep"
  write(full(), place)
  assert read(place) == full()
  with pytest.raises(UserError, match=r"nowhere/runs\.parquet is not there"):
    read("memory://nowhere")
  with pytest.raises(UserError, match="cannot be reached"):
    read("gopher://old/folder")


def refused(folder, match):
  with pytest.raises(UserError, match=match) as caught:
    read(folder)
  assert "\n" not in str(caught.value)
  assert "ablax ablate" in str(caught.value)  # how to rebuild it


def test_a_missing_record_says_how_to_rebuild_it(tmp_path):
  refused(tmp_path, "is not there")
  refused(tmp_path / "none", "is not there")


def test_a_record_cut_off_anywhere_is_refused(tmp_path):
  write(full(), tmp_path)
  file = tmp_path / "runs.parquet"
  whole = file.read_bytes()
  for n in [0, 3, 4, 8, *range(9, len(whole), 97), len(whole) - 1]:
    file.write_bytes(whole[:n])
    refused(tmp_path, "cut off or damaged")


def test_a_foreign_table_is_refused(tmp_path):
  file = tmp_path / "runs.parquet"
  pq.write_table(pa.table({"x": [1]}), file)
  refused(tmp_path, "not a record of a sweep: it lacks its facts")
  write(record(), tmp_path)
  table = pq.read_table(file)
  pq.write_table(table.drop_columns(["config_hash"]), file)
  refused(tmp_path, "config_hash")
  told = json.loads(table.schema.metadata[b"ablax"]) | {"format": 99}
  other = table.replace_schema_metadata({"ablax": json.dumps(told)})
  pq.write_table(other, file)
  refused(tmp_path, "has format 99")


# Merging.


def second(**fields):
  """A sweep of another arm against the same baseline."""
  values = {"adamw": [2.0, 2.1, 2.2], "muon": [1.8, 1.9, 2.0]}
  return record(values, **{"name": "more", **fields})


def test_merging_takes_every_run_once():
  both = merge([record(), second()])
  assert both.facts.arms == ("adamw", "lion", "muon")
  assert both.facts.name == "optimizers+more"
  keys = [(r.arm, r.seed) for r in both.runs]
  assert len(keys) == len(set(keys)) == 9
  assert keys == sorted(keys, key=lambda k: (both.facts.arms.index(k[0]), k[1]))
  assert both.facts.notes == () and both.facts.asked == {}
  assert merge([record()]) == record()
  # The claims of both, each once.
  assert both.facts.claim == record().facts.claim


def test_each_arm_keeps_the_seeds_that_it_was_asked_for():
  values = {"adamw": [2.0, 2.1, 2.2, 2.3, 2.4], "muon": [1.8] * 5}
  both = merge([record(), record(values, name="more")])
  assert both.facts.seeds == (0, 1, 2, 3, 4)
  assert both.facts.asked == {"lion": (0, 1, 2)}
  assert both.facts.seeds_of("lion") == (0, 1, 2)
  assert both.facts.seeds_of("adamw") == (0, 1, 2, 3, 4)


def test_a_baseline_of_another_name_but_one_config_is_the_same():
  other = second()
  runs = [
    dataclasses.replace(r, arm="plain") if r.arm == "adamw" else r
    for r in other.runs
  ]
  renamed = Record(facts(["plain", "muon"], (0, 1, 2)), tuple(runs))
  assert merge([record(), renamed]).facts.arms == ("adamw", "lion", "muon")
  taken = Record(facts(["muon", "adamw"], (0, 1, 2)), other.runs)
  with pytest.raises(UserError, match="rename it there"):
    merge([record(), taken])


@pytest.mark.parametrize(
  ("other", "match"),
  [
    (second(metric="loss"), "metric is 'heldout/bits_per_byte' in one"),
    (second(goal="max"), "goal is 'min'"),
    (second(alpha=0.01), "alpha is 0.05"),
    (changed(second(), "adamw", 1, config_hash="x"), "config_hash of the base"),
    (each(second(), code="0.2.0"), "code is .* 0.2.0 in more"),
    (each(second(), data_fingerprint="x"), "data_fingerprint is data in"),
    (each(second(), tokenizer="bpe"), "tokenizer is bytes in optimizers, bpe"),
    (second(budget="flops"), "budget is none in optimizers, flops in more"),
    (
      changed(record(name="more"), "lion", 0, changes={"opt.lr": 1}),
      "arm 'lion', but not the same one: they differ in opt.lr, opt.name",
    ),
    (
      Record(facts(["adamw", "muon"], (7,)), (run(seed=7), run("muon", 7))),
      "no seed in common",
    ),
  ],
)
def test_what_cannot_be_compared_is_refused_by_its_key(other, match):
  with pytest.raises(UserError, match=match) as caught:
    merge([record(), other])
  assert "\n" not in str(caught.value)


def test_other_code_is_compared_on_demand_and_said():
  other = each(second(), code="0.2.0", tokenizer="bpe")
  notes = merge([record(), other], allow_mixed=True).facts.notes
  assert len(notes) == 2
  assert "different code" in notes[0] and "0.2.0 in more" in notes[0]
  assert "different tokenizer" in notes[1]
  # What can't be compared at all stays refused.
  with pytest.raises(UserError, match="config_hash"):
    merge([record(), each(other, config_hash="x")], allow_mixed=True)


def test_arms_may_differ_in_data_where_baselines_do_not():
  bpe = changed(second(), "muon", 0, tokenizer="bpe", data_fingerprint="x")
  assert len(merge([record(), bpe]).runs) == 9


def test_a_run_that_gave_two_results_is_said():
  other = changed(second(), "adamw", 1, final={METRIC: 2.1000001})
  both = merge([record(), other])
  (note,) = both.facts.notes
  assert "adamw, seed 1" in note and "2.1000001" in note
  assert both.runs[1].final[METRIC] == 2.1  # the first sweep's


def test_a_run_that_finished_anywhere_has_finished():
  failed = changed(record(), "adamw", 0, status="failed", final={})
  for order in ([failed, second()], [second(), failed]):
    both = merge(order)
    assert both.runs[0].status == "finished" and not both.facts.notes


def test_a_run_that_diverged_elsewhere_is_said():
  bad = changed(record(), "adamw", 0, status="diverged")
  for order in ([bad, second()], [second(), bad]):
    both = merge(order)
    (note,) = both.facts.notes
    assert "adamw, seed 0, diverged in one sweep" in note
    assert both.runs[0].status == "finished"


def test_sweeps_of_a_law_are_merged_with_it_and_others_without():
  laws = record(fit="scaling"), second(fit="scaling")
  assert merge(laws).facts.fit == "scaling"
  assert merge([laws[0], second()]).facts.fit == ""


def test_nothing_cannot_be_merged():
  with pytest.raises(UserError, match="no sweep"):
    merge([])
