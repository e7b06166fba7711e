"""`ablax prepare`: what it says, writes and refuses."""

import json

import corpora
import pytest

from ablax.__main__ import guarded
from ablax.data.cache import root
from ablax.data.corpus import Corpus
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


def test_the_report_says_what_was_done_and_another_keeps_away_from_it(text):
  assert run(text) == 0
  assert run(text, "data.clean=exact", "data.opts.exact.normalize=loose") == 0
  assert run(text, "steps=20") == 0
  files = (root() / "reports").iterdir()
  reports = [json.loads(file.read_text()) for file in files]
  assert len({report["fingerprint"] for report in reports}) == 1
  asked = [[[], 80], [[], 160], [[["exact", {"normalize": "loose"}]], 80]]
  assert sorted([r["clean"], r["rows"]] for r in reports) == asked


def test_documents_without_text_are_reported(text):
  lines = [{"text": None}, {"text": "some words of text"}, {"text": ""}] * 20
  lines += [{"text": f"{i} words" * 20} for i in range(40)]
  file = text / "b.jsonl"
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  assert run(f"{file}", "data.clean=exact") == 0
  (kept,) = (root() / "reports").iterdir()
  found = json.loads(kept.read_text())
  assert found["sources"][0]["documents"] == 100
  assert found["sources"][0]["dropped_documents"] == 40 + 19
  assert found["dropped"] == {
    "empty": {"documents": 40, "bytes": 0},
    "exact duplicate": {"documents": 19, "bytes": 19 * 18},
  }
  assert found["samples"]["empty"][0] == {"name": "b.jsonl#1", "text": ""}
  (second, *_) = found["samples"]["exact duplicate"]
  assert second == {
    "name": "b.jsonl#5",
    "of": "b.jsonl#2",
    "text": "some words of text",
  }


def test_samples_have_the_names_of_today(text):
  def names():
    assert run(text, "data.clean=exact") == 0
    (kept,) = (root() / "reports").iterdir()
    (sample,) = json.loads(kept.read_text())["samples"]["exact duplicate"]
    return sample["name"], sample["of"]

  (text / "copy.txt").write_text((text / "000.txt").read_text())
  assert names() == ("copy.txt", "000.txt")
  for file in sorted(text.iterdir()):
    file.rename(file.with_name(f"new-{file.name}"))
  assert names() == ("new-copy.txt", "new-000.txt")
  assert len(list((root() / "cleaned").iterdir())) == 1


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      ("data.clean=toxicity", "data.opts.toxicity.words=nowhere.txt"),
      "nowhere.txt",
    ),
    (
      (
        "data.clean=classifier",
        "data.opts.classifier.good=nowhere",
        "data.opts.classifier.bad=nowhere",
      ),
      "data.opts.classifier.good",
    ),
    (
      (
        "data.tokenizer=tokenizer_json",
        "data.opts.tokenizer_json.path=nowhere.json",
      ),
      "nowhere.json",
    ),
    (("data.clean=exact,exact",), "names 'exact' 2 times; name it once"),
  ],
  ids=["words", "classifier", "tokenizer", "twice"],
)
def test_what_cannot_work_is_told_before_reading(
  text, overrides, message, capsys, monkeypatch
):
  monkeypatch.setattr(Corpus, "_list", lambda *args: 1 / 0)
  assert run(text, *overrides) == 2
  err = capsys.readouterr().err
  assert message in err and err.count("\n") == 1


def test_json_is_the_report_that_is_kept(text, capsys):
  assert run(text, options=("--json",)) == 0
  (file,) = (root() / "reports").iterdir()
  assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())
