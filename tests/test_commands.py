"""Commands: what they say and exit with, mistakes of the user's above all."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

import ablax
from ablax.__main__ import COMMANDS, guarded, main
from ablax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]], ids=str)
def test_without_a_command_all_of_them_are_listed(argv, capsys):
  assert main(argv) == 0
  out, err = capsys.readouterr()
  assert out.startswith("usage: ablax COMMAND") and not err
  for name, (_, what) in COMMANDS.items():
    assert f"  {name}" in out and what in out


@pytest.mark.parametrize(
  ("word", "nearest"), [("trian", "train"), ("catalogue", "catalog")]
)
def test_an_unknown_command_is_refused_with_the_nearest(word, nearest, capsys):
  assert main([word]) == 2
  err = capsys.readouterr().err
  assert err == f"error: '{word}' is not a command; did you mean '{nearest}'?\n"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_that_of_the_package(flag, capsys):
  assert main([flag]) == 0
  assert capsys.readouterr().out == f"ablax {ablax.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_shows_an_example(command, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "100")
  with pytest.raises(SystemExit) as exit_:
    main([command, "--help"])
  out = capsys.readouterr().out
  assert not exit_.value.code
  assert f"usage: ablax {command}" in out
  assert f"\n  ablax {command} " in out, "no example on a line of its own"


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["train"], "error: --config=FILE is missing; try --config="),
    (["prove", "mixer"], "error: --config=FILE is missing; try --config="),
    (
      ["prove", "mixr", "--config=lm/tiny.py"],
      "error: 'mixr' is not a proof; did you mean 'mixer'?",
    ),
    (
      ["prove", "mixer", "--steps=3", "--config=lm/tiny.py"],
      "error: --steps is only for: prove resume",
    ),
    (["sample", "--workdir=nowhere"], "error: nowhere holds no run"),
    (["tokenizer", "--kind="], "error: --kind is empty; there is: bytes"),
    (["tokenizer", "--kind=bep"], "did you mean 'bpe'?"),
    (
      ["tokenizer", "--kind=bytes,sentencepiece"],
      "error: --kind=sentencepiece is read from a file; use --file=PATH",
    ),
    (
      ["tokenizer", "--file=nowhere"],
      "error: --file=nowhere is neither a file nor a folder",
    ),
    (["catalog", "--check=nowhere.md"], "error: there is no file nowhere.md"),
    (
      ["train", "--config=lm/tiny.py", "--config.opt.lrr=1"],
      "error: opt.lrr is not a config key; did you mean 'opt.lr'?",
    ),
  ],
  ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, message, capsys):
  assert main(argv) == 2
  out, err = capsys.readouterr()
  assert message in err and err.startswith("error: ")
  assert err.count("\n") == 1 and not out


def raising(error):
  def command(argv):
    raise error

  return command


def test_guarded_passes_what_a_command_returns():
  assert guarded(lambda argv: None, []) == 0
  assert guarded(lambda argv: len(argv), ["a"]) == 1


def test_a_user_error_is_one_line_on_stderr(capsys):
  assert guarded(raising(UserError("a=1 must be 2")), []) == 2
  assert capsys.readouterr() == ("", "error: a=1 must be 2\n")


@pytest.mark.parametrize("file", [None, "/data/run"])
def test_a_full_disk_is_one_line_and_exit_code_1(file, capsys):
  full = OSError(errno.ENOSPC, "No space left on device", file)
  assert guarded(raising(full), []) == 1
  out, err = capsys.readouterr()
  assert err.startswith("error: the disk is full") and err.count("\n") == 1
  assert (file is None) == ("/data/run" not in err) and not out


def test_a_mistake_of_ours_keeps_its_traceback():
  for error in (OSError(errno.EIO, "broken"), ValueError("ours"), KeyError(1)):
    with pytest.raises(type(error)):
      guarded(raising(error), [])


def test_ctrl_c_ends_in_130_without_a_traceback(capsys):
  assert guarded(raising(KeyboardInterrupt()), []) == 130
  assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_sees_no_traceback(unbuffered):
  """`ablax | head -0`, with a real pipe."""
  process = subprocess.Popen(
    [sys.executable, "-m", "ablax"],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    cwd=ROOT,
    env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
  )
  assert process.stdout and process.stderr
  process.stdout.close()
  err = process.stderr.read()
  process.wait()
  process.stderr.close()
  assert not err and process.returncode == 0


@pytest.mark.slow
def test_python_dash_m_refuses_a_missing_config_in_one_line():
  done = subprocess.run(
    [sys.executable, "-m", "ablax.train", "--config=nope"],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 2 and not done.stdout
  assert done.stderr.startswith("error: no config file 'nope'")
  assert done.stderr.count("\n") == 1
