"""`ablax eval`: files go where they belong, and numbers are the trainer's."""

import dataclasses
import json
import math
import pathlib
import sys

import jax
import numpy as np
import pytest

from ablax import eval as command
from ablax.__main__ import guarded
from ablax.configs import base
from ablax.data.prepare import prepare
from ablax.infer.evals import perplexity
from ablax.infer.score import Scorer
from ablax.models.lm import apply, init
from ablax.train.config import resolve

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHOICES = '{"question": "a", "choices": ["b", "c"], "answer": 0}\n'
PROMPTS = '{"prompt": "a", "answer": "b"}\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """A run that was never trained: config, weights, its text, its folder."""
  folder = tmp_path_factory.mktemp("world")
  rng = np.random.default_rng(0)
  for side in ("a", "b"):
    (folder / side).mkdir()
    for i in range(8):
      text = " ".join(rng.choice(["model", "loss", "é"], size=20 + 3 * i))
      (folder / side / f"{i}.txt").write_text(text, encoding="utf-8")
  overrides = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "model.n_kv_heads": 1,
    "model.ff_dim": 24,
    "model.max_len": 64,
    "data.mixture": (
      (f"text:{folder / 'a'}", 1.0, 0.0),
      (f"text:{folder / 'b'}", 1.0, 0.0),
    ),
    "data.tokenizer": "bytes",
    "data.heldout_bytes": 300,
    "data.seq_len": 24,
    "data.batch_size": 5,
  }
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("ABLAX_CACHE", str(folder / "cache"))
    config = resolve(base.get_config(), overrides)
    prepared = prepare(config.data, progress=False)
    config = config.with_vocab(prepared.tokenizer.vocab_size)
    params = init(config.model, jax.random.key(0))
    run = {
      "config": config.as_dict(),
      "hash": config.hash,
      "code": {},
      "data_fingerprint": prepared.fingerprint,
      "tokenizer": prepared.tokenizer.fingerprint,
      "vocab_size": config.model.vocab_size,
    }
    (folder / "config.json").write_text(json.dumps(run))
    yield config, params, prepared, folder


@pytest.fixture
def loaded(world, monkeypatch):
  """The command loads that run's weights, whatever it is asked."""
  config, params, prepared, folder = world
  monkeypatch.setattr(
    command, "_load", lambda *_: (config, params, prepared.tokenizer, 7)
  )
  return folder


def test_heldout_loss_is_that_of_training(world):
  from ablax.data.pipeline import heldout_batches

  config, params, prepared, folder = world
  scorer = Scorer(config.model, params, prepared.tokenizer, n_rows=3)
  sources = command._heldout(folder, config, prepared.tokenizer)
  measure = perplexity.Perplexity(perplexity.Options(tail=4))
  found = measure(scorer, sources)
  loss = jax.jit(
    lambda b: apply(
      config.model, params, b["tokens"], b["positions"], b["segment_ids"]
    ).cross_entropy(b["targets"], b["weights"])[0]
  )
  assert len(found["sources"]) == len(prepared.parts) == 2
  for i, part in enumerate(prepared.parts):
    batches = list(heldout_batches(prepared, config.data, part=i))
    nats = sum(float(loss(batch)) for batch in batches)
    numbers = found["sources"][part.name]
    assert numbers["tokens"] == sum(int(b["weights"].sum()) for b in batches)
    assert numbers["bytes"] == part.heldout_bytes
    # Sums of fp32 there, of float64 here.
    assert abs(numbers["loss"] * numbers["tokens"] / nats - 1) < 1e-6
  assert found["by_context"]["curve"][-1]["context"] == 60


def test_text_of_ones_own_is_counted_and_packed_as_the_runs(world):
  config, _, prepared, folder = world
  (source,) = [command._text(str(folder / "a"), config, prepared.tokenizer)]
  rows = list(source.rows)
  texts = [f.read_text() for f in sorted((folder / "a").iterdir())]
  n_bytes = sum(len(text.encode()) for text in texts)
  assert source.n_bytes() == n_bytes
  # Every byte and each document's end is a target once.
  assert sum((row.segment_ids > 0).sum() for row in rows) == n_bytes + 8
  assert {len(row.tokens) for row in rows} == {24}
  documents = [bytes(i - 3 for i in ids).decode() for ids in source.documents()]
  assert documents == texts


def test_other_data_than_the_runs_is_not_called_held_out(world, capsys):
  config, _, prepared, folder = world
  run = json.loads((folder / "config.json").read_text())
  other = folder / "other"
  other.mkdir()
  run["data_fingerprint"] = "f" * 32
  (other / "config.json").write_text(json.dumps(run))
  argv = ["x"]
  assert (
    guarded(lambda _: command._heldout(other, config, prepared.tokenizer), argv)
    == 2
  )
  assert "was trained on other data (ffffffffff, and it" in (
    capsys.readouterr().err
  )


def test_everything_at_once_for_people_and_for_machines(
  loaded, tmp_path, capsys
):
  (tmp_path / "c.jsonl").write_text(CHOICES)
  (tmp_path / "p.jsonl").write_text(PROMPTS)
  argv = [str(loaded), f"--text={loaded / 'a'}", "--tail=4"]
  argv += [f"--file={tmp_path / name}.jsonl" for name in "cp"]
  argv += ["--max_tokens=3", "--stop=x", f"--out={tmp_path / 'found.json'}"]
  assert command.main(argv) == 0
  out = capsys.readouterr().out
  for title in (
    "perplexity",
    "position",
    "context",
    "1 questions",
    "1 prompts",
  ):
    assert title in out
  found = json.loads((tmp_path / "found.json").read_text())
  kinds = ["perplexity", "multiple_choice", "exact_match"]
  assert list(found) == ["run", "step", *kinds] and found["step"] == 7
  assert (tmp_path / "found.png").is_file()
  assert (
    command.main([str(loaded), f"--file={tmp_path / 'c.jsonl'}", "--json"]) == 0
  )
  alone = json.loads(capsys.readouterr().out)
  assert alone["multiple_choice"] == found["multiple_choice"]
  assert "perplexity" not in alone


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--tasks=perplexty"], "did you mean 'perplexity'"),
    (["--tasks=multiple_choice"], "give --file=FILE.jsonl, whose lines have"),
    (["--tasks=perplexity", "--file=c.jsonl"], "reads no file; drop --file"),
    (["--file=n.jsonl"], "has the fields x, and exactly one of 'choices'"),
    (["--file=nowhere"], "--file=nowhere: there is no such file"),
    (["--tasks=exact_match", "--file=n.jsonl"], "lacks the field 'prompt'"),
    (["--tasks=exact_match", "--file=p.jsonl", "--text=a"], "for perplexity"),
    (["--text=nowhere"], "--text=nowhere: there is no such file or folder"),
    (["--text=empty.txt"], "is empty; leave it out of --text"),
    (["--text=n.jsonl", "--text=./n.jsonl"], "=./n.jsonl comes twice"),
    (["--out=no/where.json"], "there is no folder no; make it"),
    (["--rows=0"], "n_rows=0 must be at least 1"),
    (["--step=x"], "--step: 'x' is not a whole number"),
    (["--lm-eval=nowhere.yaml"], "--lm-eval=nowhere.yaml: there is no such"),
  ],
)
def test_a_mistake_is_one_line(
  loaded, tmp_path, monkeypatch, capsys, argv, message
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("c.jsonl").write_text(CHOICES)
  pathlib.Path("p.jsonl").write_text(PROMPTS)
  pathlib.Path("n.jsonl").write_text('{"x": 1}\n')
  pathlib.Path("empty.txt").touch()
  assert guarded(command.main, [str(loaded), *argv]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error
  assert error.count("\n") == 1


def test_a_run_of_a_task_has_no_text_that_was_held_out(
  world, tmp_path, monkeypatch, capsys
):
  config, params, prepared, _ = world
  task = resolve(base.get_config(), {"data.task": "mqar", "data.seq_len": 64})
  task = dataclasses.replace(config, data=task.data)
  loaded = (task, params, prepared.tokenizer, 7)
  monkeypatch.setattr(command, "_load", lambda *_: loaded)
  assert guarded(command.main, [str(tmp_path)]) == 2
  error = capsys.readouterr().err
  assert (
    "was trained on data.task='mqar', of which no text is held out" in error
  )
  assert "ablax info" in error and error.count("\n") == 1


def test_what_is_not_finite_is_null_in_the_json(
  loaded, tmp_path, monkeypatch, capsys
):
  found = {"all": [math.inf, {"x": math.nan}], "ok": 1.5}
  monkeypatch.setattr(perplexity.Perplexity, "__call__", lambda *_: found)
  monkeypatch.setattr(perplexity, "plot", lambda *_: None)
  argv = [str(loaded), f"--text={loaded / 'a'}", "--json"]
  assert command.main([*argv, f"--out={tmp_path / 'found.json'}"]) == 0

  def refuse(word):
    raise AssertionError(word)

  for text in (
    capsys.readouterr().out,
    (tmp_path / "found.json").read_text(),
  ):
    read = json.loads(text, parse_constant=refuse)
    assert read["perplexity"] == {"all": [None, {"x": None}], "ok": 1.5}


def test_a_folder_without_a_run_is_told(tmp_path, capsys):
  assert guarded(command.main, [str(tmp_path), "--json"]) == 2
  assert "holds no run (no config.json)" in capsys.readouterr().err


def test_without_the_harness_it_is_told_how_to_have_it(
  loaded, tmp_path, monkeypatch, capsys
):
  (tmp_path / "t.yaml").touch()
  monkeypatch.setitem(sys.modules, "lm_eval", None)
  argv = [str(loaded), f"--lm-eval={tmp_path / 't.yaml'}"]
  assert guarded(command.main, argv) == 2
  assert "pip install 'lm-eval>=0.4.13'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["code_choice", "code_completion"])
def test_the_examples_are_files_for_it(loaded, name, capsys):
  file = ROOT / f"examples/tasks/{name}.jsonl"
  assert (
    command.main([str(loaded), f"--file={file}", "--json", "--max-tokens=2"])
    == 0
  )
  assert json.loads(capsys.readouterr().out)


def test_help_shows_every_option(capsys):
  with pytest.raises(SystemExit) as exit_:
    command.main(["--help"])
  out = capsys.readouterr().out
  assert exit_.value.code == 0 and "\n  ablax eval " in out
  for flag in ("--tail", "--delimiter", "--stop", "--normalize", "--lm-eval"):
    assert flag in out
