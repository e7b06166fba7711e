"""`ablax sample`, with a model that only repeats."""

import dataclasses
import io
import json
import subprocess
import sys
import types

import pytest

from ablax import flags, sample
from ablax.__main__ import guarded
from ablax.errors import UserError
from ablax.infer import sampling
from ablax.infer.decoding import DECODERS, beam, diverse_beam
from ablax.infer.settings import Sampling
from ablax.infer.text import Completion


class Codes:
  """A text's characters are its ids."""

  pad_id, bos_id, eos_id = 0, 1, 2
  vocab_size = 2**20

  def encode(self, text):
    return [ord(c) for c in text]

  def token_bytes(self, token):
    return chr(token).encode()


@pytest.fixture
def calls(monkeypatch):
  """Replaces model and generation; returns what they were called with."""
  calls = []

  def load_model(workdir, step=None):
    calls.append((workdir, step))
    return types.SimpleNamespace(model="model"), "params", Codes()

  def generate(
    config, params, tokenizer, prompts, settings, on_text=None, **how
  ):
    assert (config, params) == ("model", "params")
    calls.append((tuple(prompts), settings, how))
    if on_text:
      for i in range(len(prompts)):
        on_text(i, "!")
        on_text(i, "?")
    one = Completion("!?", (5, 6), (-1.0, -2.0), "length")
    return [one] * (len(prompts) * settings.n)

  checkpoint = types.ModuleType("checkpoint")
  checkpoint.load_model = load_model
  monkeypatch.setitem(sys.modules, "ablax.train.checkpoint", checkpoint)
  monkeypatch.setattr(sampling, "generate", generate)
  return calls


def test_one_prompt_is_streamed(calls, capsys):
  argv = "--workdir=w --step=30 --prompt=ab --temperature=2 --top-k=3"
  argv += " --top_p=0.5"
  argv += " --max-tokens=7 --stop=x --stop=yy --seed=9 --repetition-penalty=1.1"
  argv += ' --logit-bias={"13":-100} --guidance-scale=2 --negative-prompt=z'
  assert sample.main(argv.split()) == 0
  assert capsys.readouterr().out == "ab!?\n"
  (workdir, step), (prompts, settings, how) = calls
  assert (workdir, step, prompts) == ("w", 30, ("ab",))
  assert settings == Sampling(
    temperature=2.0,
    top_k=3,
    top_p=0.5,
    max_tokens=7,
    stop=("x", "yy"),
    seed=9,
    repetition_penalty=1.1,
    logit_bias={13: -100},
    guidance_scale=2,
    negative_prompt="z",
  )
  assert how == {"decoding": "sample", "options": None, "n_rows": None}


def test_greedy_is_a_temperature_of_zero(calls):
  sample.main(["--workdir=w", "--prompt=a", "--greedy"])
  assert calls[1][1] == Sampling(temperature=0)


def test_several_prompts_are_one_batch(calls, capsys):
  sample.main(["--workdir=w", "--prompt=a [b]", "--prompt=c"])
  out = capsys.readouterr().out
  assert calls[1][0] == ("a [b]", "c")
  assert "a [b]!?\n" in out and "c!?\n" in out
  assert out.count("length") == 2


def test_a_pipe_gives_one_prompt_a_line(calls, capsys, monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n\n"))
  sample.main(["--workdir=w"])
  assert calls[1][0] == ("one", "two", "")


@pytest.fixture
def typed(monkeypatch):
  """Makes standard input a terminal where two lines are typed."""
  lines = iter(["one", "two"])

  def read(prompt):
    try:
      return next(lines)
    except StopIteration:
      raise EOFError from None

  monkeypatch.setattr("builtins.input", read)
  monkeypatch.setattr(sys, "stdin", io.StringIO())
  monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def test_a_terminal_gives_a_text_at_a_time(calls, capsys, typed):
  sample.main(["--workdir=w"])
  assert [c[0] for c in calls[1:]] == [("one",), ("two",)]
  assert "one!?\ntwo!?\n" in capsys.readouterr().out


def test_a_chat_remembers_what_was_said(calls, capsys, typed):
  sample.main(["--workdir=w", "--chat", "--system=be kind", "--stop=x"])
  prompts = ["".join(map(chr, c[0][0])) for c in calls[1:]]
  start = "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\none"
  assert prompts[0] == start + "<|im_end|>\n<|im_start|>assistant\n"
  assert prompts[1] == prompts[0] + (
    "!?<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
  )
  assert calls[1][1].stop == ("x", "<|im_end|>")
  assert capsys.readouterr().out == "!?\n!?\n\n"


def test_a_template_and_tools_may_be_files(calls, tmp_path, capsys):
  template, tools = tmp_path / "a.jinja", tmp_path / "tools.json"
  template.write_text("{{ tools[0].name }}:{{ messages[0].content }}\n")
  tools.write_text('[{"name": "f"}]')
  argv = ["--workdir=w", f"--chat={template}", f"--tools={tools}"]
  sample.main([*argv, "--prompt=a", "--prompt=b"])
  assert ["".join(map(chr, p)) for p in calls[1][0]] == ["f:a", "f:b"]


def test_json_is_one_object_a_line(calls, capsys):
  sample.main(["--workdir=w", "--prompt=é", "--num=2", "--json"])
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2
  assert json.loads(lines[0]) == {
    "prompt": "é",
    "text": "!?",
    "tokens": [5, 6],
    "logprobs": [-1.0, -2.0],
    "finish": "length",
    "score": 0.0,
  }


def test_a_decoding_brings_its_options(calls, capsys):
  argv = ["--workdir=w", "--prompt=a", "--rows=2", "--decoding=diverse_beam"]
  sample.main([*argv, "--beams=6", "--groups=3", "--early-stopping=never"])
  options = diverse_beam.Options(beams=6, groups=3, early_stopping="never")
  assert calls[1][2] == {
    "decoding": "diverse_beam",
    "options": options,
    "n_rows": 2,
  }


def test_a_decoding_may_be_a_plugin_of_the_run(calls, tmp_path, monkeypatch):
  monkeypatch.setattr(DECODERS, "_registered", {})
  plugin = tmp_path / "mine.py"
  plugin.write_text(
    "import dataclasses\n"
    "from ablax.infer.decoding import DECODERS\n"
    "@dataclasses.dataclass(frozen=True)\n"
    "class Options:\n"
    '  """What is asked.\n\n  Attributes:\n    width: of it.\n  """\n\n'
    "  width: int = 3\n"
    '@DECODERS.register("mine")\n'
    "class Mine: ...\n"
  )
  keys = ("hash", "code", "vocab_size", "tokenizer")
  run = {"config": {"plugins": [str(plugin)]}, **dict.fromkeys(keys, "")}
  (tmp_path / "config.json").write_text(json.dumps(run))
  argv = [f"--workdir={tmp_path}", "--prompt=a", "--decoding=mine"]
  sample.main([*argv, "--width=5"])
  how = calls[1][2]
  assert how["decoding"] == "mine" and how["options"].width == 5


def test_a_pipe_without_a_line_is_refused(calls, monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.StringIO(""))
  with pytest.raises(UserError, match="holds no prompt; give --prompt"):
    sample.main(["--workdir=w"])


def test_a_template_that_makes_nothing_is_named(calls, tmp_path):
  template = tmp_path / "empty.jinja"
  template.write_text("")
  with pytest.raises(UserError, match=r"chat=.*empty\.jinja' makes no text"):
    sample.main(["--workdir=w", "--prompt=a", f"--chat={template}"])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"3", "must be a list of objects"),
    (b'["f"]', "must be a list of objects"),
    (b"{", "is not JSON"),
    (b"\xff", "is not UTF-8"),
  ],
)
def test_tools_are_a_list_of_schemas(calls, tmp_path, content, message):
  file = tmp_path / "tools.json"
  file.write_bytes(content)
  with pytest.raises(UserError, match=message):
    sample.main(["--workdir=w", "--prompt=a", "--chat", f"--tools={file}"])


def test_a_schema_and_a_grammar_are_files(calls, tmp_path):
  file = tmp_path / "schema.json"
  file.write_text('{"type": "null"}')
  sample.main(["--workdir=w", "--prompt=a", f"--json-schema={file}"])
  assert calls[1][1].json_schema == '{"type": "null"}'
  for content, message in ((b"", "grammar='' is empty"), (b"\xff", "UTF-8")):
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
      sample.main(["--workdir=w", "--prompt=a", f"--grammar={file}"])


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--top-p=2"], "top_p=2.0 must be"),
    (["--greedy", "--temperature=1"], "--greedy is --temperature=0"),
    (["--decoding=bean"], "did you mean 'beam'"),
    (["--decoding=beam", "--beems=2"], "did you mean '--beams'"),
    (["--beams=2"], "--beams=2 is no flag with --decoding=sample"),
    (["--decoding=beam", "--beams=0"], "beams=0 must be at least 1"),
    (["--grammar=nowhere"], "--grammar=nowhere: there is no such file"),
    (["--chat=chatlm"], "did you mean 'chatml'"),
    (["--regex="], "regex='' is empty"),
    (["--system=x"], "--system=x is part of a chat; add --chat"),
    (["--tools=x"], "--tools=x is part of a chat; add --chat"),
    (["--top-p=x"], "--top-p: 'x' is not a number; write one"),
    (["--num=1.5"], "--num: '1.5' is not a whole number; write one"),
    (["--decoding=beam", "--early-stopping=maybe"], "--early-stopping: inva"),
    (["--logit-bias=[5]"], "--logit-bias: '[5]' is not a JSON object"),
    (['--logit-bias={"a":1}'], "logit_bias={'a': 1}: a key must be a token"),
    (['--logit-bias={"-1":1}'], "logit_bias={'-1': 1}: a key must be"),
    (['--logit-bias={"5":"x"}'], "logit_bias={5: 'x'} must be a finite"),
    (['--logit-bias={"5":null}'], "logit_bias={5: None} must be a finite"),
    (['--logit-bias={"5":1e39}'], "logit_bias={5: 1e+39} must be a finite"),
    (['--filters={"even":"x"}'], "filters={'even': 'x'} must be a finite"),
    (['--filters={"even":[1]}'], "filters={'even': [1]} must be a finite"),
    (['--constraints={"regex":"a"}'], "is a setting of its own; use regex="),
    (["--decoding=beam", "--length-penalty=1000"], "must be in [-10, 10]"),
    (["--chat", "--tools=nowhere"], "--tools=nowhere: there is no such file"),
  ],
)
def test_a_mistake_is_one_line(unchecked, calls, capsys, argv, message):
  assert guarded(sample.main, ["--workdir=w", "--prompt=a", *argv]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error
  assert error.count("\n") == 1
  assert not any(len(call) == 3 for call in calls)


def test_help_lists_every_setting_and_does_not_wait_for_jax():
  code = (
    "import sys; from ablax import sample\n"
    "try: sample.main(['--help'])\n"
    "except SystemExit: assert 'jax' not in sys.modules"
  )
  shown = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout
  assert "ablax sample --workdir=runs/tiny" in shown
  for field in dataclasses.fields(Sampling):
    name = "num" if field.name == "n" else field.name.replace("_", "-")
    assert f"--{name} " in shown
  words = " ".join(shown.split())
  for name in DECODERS:
    assert name in words


def test_the_help_of_a_decoding_lists_its_options(capsys):
  with pytest.raises(SystemExit) as exit_:
    sample.main(["--decoding=beam", "--help"])
  assert exit_.value.code == 0
  out = capsys.readouterr().out
  assert "--length-penalty X" in out and "{no,yes,never}" in out
  assert "(default: 4)" in out


@pytest.mark.parametrize("settings", [Sampling, beam.Options])
def test_every_field_is_described(settings):
  described = flags.described(settings)
  assert set(described) == {f.name for f in dataclasses.fields(settings)}
  assert all(described.values())
