"""`ablax sample`, with a model that only repeats."""

import io
import sys
import types

import pytest

from ablax import sample
from ablax.__main__ import guarded
from ablax.infer import sampling
from ablax.infer.sampling import Completion


@pytest.fixture
def calls(monkeypatch):
  """Replaces model and generation; returns what they were called with."""
  calls = []

  def load_model(workdir, step=None):
    calls.append((workdir, step))
    return types.SimpleNamespace(model="model"), "params", "tokenizer"

  def generate(config, params, tokenizer, prompts, settings, on_text=None):
    assert (config, params, tokenizer) == ("model", "params", "tokenizer")
    calls.append((tuple(prompts), settings))
    if on_text:
      for i in range(len(prompts)):
        on_text(i, "!")
        on_text(i, "?")
    return [Completion("!?", (5, 6), (-1.0, -2.0), "length") for _ in prompts]

  checkpoint = types.ModuleType("checkpoint")
  checkpoint.load_model = load_model
  monkeypatch.setitem(sys.modules, "ablax.train.checkpoint", checkpoint)
  monkeypatch.setattr(sampling, "generate", generate)
  return calls


def test_one_prompt_is_streamed(calls, capsys):
  argv = "--workdir=w --step=30 --prompt=ab --greedy --top-k=3 --top-p=0.5"
  argv += " --max-tokens=7 --stop=x --stop=yy --seed=9"
  assert sample.main(argv.split()) == 0
  assert capsys.readouterr().out == "ab!?\n"
  (workdir, step), (prompts, settings) = calls
  assert (workdir, step, prompts) == ("w", 30, ("ab",))
  assert settings == sampling.Sampling(0.0, 3, 0.5, 7, ("x", "yy"), 9)


def test_several_prompts_are_one_batch(calls, capsys):
  sample.main(["--workdir=w", "--prompt=a [b]", "--prompt=c"])
  out = capsys.readouterr().out
  assert [p for p, _ in calls] == ["w", ("a [b]", "c")]
  assert "a [b]!?\n" in out and "c!?\n" in out
  assert out.count("length") == 2


def test_a_pipe_gives_one_prompt_a_line(calls, capsys, monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n\n"))
  sample.main(["--workdir=w"])
  assert calls[1][0] == ("one", "two", "")


def test_a_terminal_gives_a_conversation(calls, capsys, monkeypatch):
  typed = iter(["one", "two"])

  def read(prompt):
    try:
      return next(typed)
    except StopIteration:
      raise EOFError from None

  monkeypatch.setattr("builtins.input", read)
  monkeypatch.setattr(sys, "stdin", io.StringIO())
  monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
  sample.main(["--workdir=w"])
  assert [c[0] for c in calls[1:]] == [("one",), ("two",)]
  assert "one!?\ntwo!?\n" in capsys.readouterr().out


def test_a_setting_without_meaning_is_one_line(calls, capsys):
  argv = ["--workdir=w", "--prompt=a", "--top-p=2"]
  assert guarded(sample.main, argv) == 2
  assert capsys.readouterr().err.startswith("error: top_p=2.0 must be")
  assert calls == []


def test_greedy_and_a_temperature_exclude_each_other(calls, capsys):
  with pytest.raises(SystemExit) as exit_:
    sample.main(["--workdir=w", "--greedy", "--temperature=1"])
  assert exit_.value.code == 2


def test_help_shows_examples(capsys):
  with pytest.raises(SystemExit) as exit_:
    sample.main(["--help"])
  assert exit_.value.code == 0
  assert "ablax sample --workdir=runs/tiny" in capsys.readouterr().out
