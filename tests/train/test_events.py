"""events.jsonl: how each part of a run began and ended."""

import os

import pytest

from ablax.train.events import ENDS, Events
from ablax.train.guard import Diverged
from ablax.train.logs import read_lines


def told(folder, error):
  """The events of a part of a run that ends with the error, after 3 updates."""
  events, steps = Events(folder), iter((0, 3))
  with pytest.raises(type(error)), events.told(lambda: next(steps), devices=8):
    events.add("warning", 2, text="a jump")
    raise error
  return read_lines(folder / "events.jsonl")


@pytest.mark.parametrize(
  ("error", "kind"),
  [
    (Diverged("step 3: the loss is\nnan"), "diverged"),
    (OSError("no space"), "failed"),
    (KeyboardInterrupt(), "failed"),
  ],
)
def test_a_failure_is_kept_with_its_step_and_reason(tmp_path, error, kind):
  start, warning, end = told(tmp_path, error)
  assert start["event"] == "start" and start["step"] == 0
  assert start["pid"] == os.getpid() and start["devices"] == 8
  assert warning["event"] == "warning" and warning["text"] == "a jump"
  assert end["event"] == kind and end["step"] == 3 and kind in ENDS
  assert type(error).__name__ in end["text"] and "\n" not in end["text"]


def test_a_restart_takes_nothing_back(tmp_path):
  told(tmp_path, ValueError("one"))
  assert len(told(tmp_path, ValueError("two"))) == 6
