"""--profile: a trace of just the updates that were asked for."""

import gzip
import json
import re
import shutil

import pytest

from ablax.errors import UserError
from ablax.train.__main__ import main
from ablax.train.loop import train
from ablax.train.story import story
from ablax.train.trace import Profile, parse

PROVES = ("feature:profile",)


def test_a_trace_holds_the_updates_asked_for_by_name(small, tmp_path, capsys):
  workdir = tmp_path / "run"
  train(small(checkpoint__every=0), workdir, profile=(3, 4))
  (file,) = (workdir / "profile").rglob("*.trace.json.gz")
  assert list((workdir / "profile").rglob("*.xplane.pb"))
  events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
  steps = {
    str(e.get("args", {}).get("step_num"))
    for e in events
    if re.match("update", e.get("name", ""))
  }
  assert steps == {"3", "4"}
  # The compiled program itself, not only our marks.
  assert any("train_step" in e.get("name", "") for e in events)
  told = story(workdir)
  assert told["status"] == "finished" and told["step"] == 6
  assert told["missing"] == [] and "profile" in told["files"]
  out = capsys.readouterr().out
  assert "trace of updates 3 to 4 in" in out
  assert f"xprof --logdir={workdir / 'profile'}" in out
  # The same command again, once the run is past it.
  train(small(checkpoint__every=0), workdir, profile=(3, 4))
  out = capsys.readouterr().out
  past = "--profile=3:5: this run has done 6 updates already"
  assert f"warning: {past}; what was traced is in" in out
  (again,) = (workdir / "profile").rglob("*.trace.json.gz")
  assert again == file
  shutil.rmtree(workdir / "profile")
  with pytest.raises(UserError, match=past):
    train(small(checkpoint__every=0), workdir, profile=(3, 4))


def test_without_the_flag_nothing_is_traced(tmp_path):
  profile = Profile(tmp_path / "profile")
  for step in (1, 2, 3):
    with profile.update(step):
      pass
    profile.after(step, None)
  profile.check(10)
  profile.close()
  assert profile.how_to_look() is None and not list(tmp_path.iterdir())


def test_a_range_counts_updates_from_1_and_leaves_out_its_end():
  assert parse("1:2", 10) == (1, 1) and parse("5:11", 10) == (5, 10)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("5", "--profile=5 is not START:END"),
    ("a:b", "--profile=a:b is not START:END"),
    ("-1:3", "--profile=-1:3 is not START:END"),
    ("3:5:7", "--profile=3:5:7 is not START:END"),
    ("0:3", "--profile=0:3 traces no update: the first one is 1"),
    ("5:5", "--profile=5:5 traces no update"),
    ("7:5", "--profile=7:5 traces no update"),
    ("5:12", "ends after the last update, steps=10; END may be 11 at most"),
    ("11:12", "ends after the last update, steps=10; END may be 11 at most"),
  ],
)
def test_a_range_without_meaning_is_refused(text, message):
  with pytest.raises(UserError) as caught:
    parse(text, 10)
  assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_refuses_it_before_anything_is_made(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  for more in ([], ["--dry-run"]):
    with pytest.raises(UserError, match="ends after the last update"):
      main(["--config=configs/lm/tiny.py", "--profile=5:9999", *more])
  assert not list(tmp_path.iterdir())
