"""The progress display in a notebook: from numbers to HTML, in place."""

import sys
import types
import xml.etree.ElementTree as ET

import pytest

from ablax.train import notebook
from ablax.train.notebook import Display, in_notebook, progress_html, sparkline
from ablax.train.report import Bar, make_console


def parse(text):
  """The tree of it; HTML as plain as ours is XML too."""
  return ET.fromstring(text)


def test_the_bar_is_as_wide_as_the_share_that_is_done():
  for done, width in ((0, "0.0%"), (3, "37.5%"), (8, "100.0%"), (9, "100.0%")):
    tree = parse(progress_html("training", done, 8, "loss 2.5"))
    bar = tree.find("./div[@role='progressbar']")
    assert bar.get("aria-valuenow") == str(done)
    assert f"width:{width}" in bar.find("div").get("style")
    text = "".join(tree.itertext())
    assert f"{done}/8" in text and "loss 2.5" in text
    assert tree.find("svg") is None
  parse(progress_html("nothing to do", 0, 0, ""))


def test_what_is_shown_is_text_and_never_markup():
  tree = parse(progress_html("<b>", 1, 2, "a < b & 'c' <script>"))
  assert "a < b & 'c' <script>" in "".join(tree.itertext())
  assert tree.find(".//script") is None


def test_the_curve_has_each_point_at_its_place():
  tree = parse(sparkline([(0, 4.0), (5, 3.0), (10, 2.0)], 104, 64))
  points = tree.find("polyline").get("points").split()
  # From the upper left to the lower right, two pixels from the border.
  assert points == ["2.0,2.0", "52.0,32.0", "102.0,62.0"]
  assert tree.find("title").text == "from 4 to 2, least 2"


def test_a_curve_of_nothing_or_of_one_value_is_no_error():
  assert sparkline([]) == sparkline([(1, 2.0)]) == ""
  assert sparkline([(1, 2.0), (2, float("nan"))]) == ""
  parse(sparkline([(1, 2.0), (2, 2.0)]))
  parse(sparkline([(1, 2.0), (2, float("inf")), (3, 1.0)]))


@pytest.fixture
def kernel(monkeypatch):
  """An IPython whose kernel notes what is displayed, as (new?, html)."""
  shown = []

  class Handle:
    def update(self, what):
      shown.append((False, what))

  def display(what, display_id):
    assert display_id
    shown.append((True, what))
    return Handle()

  class ZMQInteractiveShell:
    pass

  class Shell(ZMQInteractiveShell):
    """Colab's is one of its own."""

  ipython = types.ModuleType("IPython")
  ipython.get_ipython = Shell
  inside = types.ModuleType("IPython.display")
  inside.display, inside.HTML = display, str
  monkeypatch.setitem(sys.modules, "IPython", ipython)
  monkeypatch.setitem(sys.modules, "IPython.display", inside)
  return shown


def test_a_notebook_is_a_shell_of_its_kind(kernel, monkeypatch):
  assert in_notebook()
  monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
  assert not in_notebook()
  monkeypatch.delitem(sys.modules, "IPython")
  assert not in_notebook()


def test_one_output_is_updated_in_place_and_not_too_often(kernel, monkeypatch):
  clock = [0.0]
  monkeypatch.setattr(notebook.time, "monotonic", lambda: clock[0])
  display = Display("sweep", 0, 50, "")
  for done in range(1, 51):
    clock[0] += 0.01
    display.update(done, f"run {done}", 1 / done)
  display.close()
  new, htmls = zip(*kernel, strict=True)
  assert new == (True,) + (False,) * (len(new) - 1)
  assert 3 <= len(htmls) <= 6
  assert "50/50" in htmls[-1] and "run 50" in htmls[-1]


def test_a_long_curve_is_thinned_and_keeps_its_ends(kernel):
  display = Display("training", 0, 5000, "")
  for step in range(1, 5001):
    display.update(step, "", 1 / step)
  points = display._points
  assert 200 <= len(points) <= 400
  assert points[0][0] == 1 and points[-1][0] == 5000
  assert points == sorted(points)


def test_a_run_shows_its_bar_there_and_prints_no_lines(kernel, small, capsys):
  config = small(log__progress=True, steps=4)
  with Bar(make_console(), config, 0) as bar:
    bar.update(1, 2.5, 1000.0, 0.25)
    bar.update(4, 2.25, 1000.0, 0.25)
  assert capsys.readouterr().out == ""
  last = kernel[-1][1]
  assert "4/4" in last and "loss 2.250" in last and "tokens/s" in last
  assert "<polyline" in last
  with Bar(make_console(), small(log__progress=False), 0) as bar:
    before = len(kernel)
    bar.update(1, 2.5, 1000.0, 0.25)
  assert len(kernel) == before


def test_elsewhere_a_line_is_printed(small, capsys):
  assert not in_notebook()
  with Bar(make_console(), small(log__progress=True), 0) as bar:
    bar.update(3, 2.5, 256.0, 0.25)
  out = capsys.readouterr().out
  # 3 updates of 8 x 32 tokens are left.
  want = "step 3/6  loss 2.500  256 tokens/s  25% of matmul peak  3 s left\n"
  assert out == want
