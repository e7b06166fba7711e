"""`ablax prepare`: what it says, writes and refuses."""

import json

import corpora
import pytest

from ablax.__main__ import guarded
from ablax.data.cache import root
from ablax.prepare import main


@pytest.fixture(autouse=True)
def text(tmp_path, monkeypatch):
  monkeypatch.setenv("ABLAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("COLUMNS", "200")
  corpora.write(tmp_path / "text")
  return tmp_path / "text"


def run(text, *overrides, options=()):
  values = {
    "data.source": f"text:{text}",
    "data.tokenizer": "bytes",
    "data.heldout_bytes": 500,
    "data.seq_len": 32,
    "data.batch_size": 8,
    "steps": 10,
    "opt.warmup_steps": 0,
  }
  flags = [f"--config.{key}={value}" for key, value in values.items()]
  return guarded(
    main,
    [
      "--config=configs/lm/tiny.py",
      "--workers=1",
      *options,
      *flags,
      *(f"--config.{override}" for override in overrides),
    ],
  )


@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_a_source_that_runs_dry_is_refused_after_the_report(
  text, options, capsys
):
  mixture = f"data.mixture=(('text:{text}', 1.0, 0.01),)"
  assert run(text, "data.source=", mixture, options=options) == 2
  out, err = capsys.readouterr()
  assert "runs dry" in err and str(text) in out
  assert run(text, options=options) == 0


def test_json_is_the_report_that_is_kept(text, capsys):
  assert run(text, options=("--json",)) == 0
  (file,) = (root() / "reports").iterdir()
  assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())
