"""Notebooks run on a CPU, and their two forms say the same."""

import os
import pathlib
import time

import jupytext
import nbclient
import pytest

COLABS = pathlib.Path(__file__).resolve().parents[2] / "colabs"
SOURCES = sorted(COLABS.glob("*.py"))


def cells(file):
  return [(c.cell_type, c.source) for c in jupytext.read(file).cells]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_the_notebook_and_its_source_are_the_same(source):
  notebook = source.with_suffix(".ipynb")
  again = f"jupytext --to ipynb colabs/{source.name}"
  assert cells(notebook) == cells(source), f"make it anew: {again}"
  outputs = [c.get("outputs") for c in jupytext.read(notebook).cells]
  assert not any(outputs), f"no outputs in the repository: {again}"


def _marked(source):
  """The first in CI, and the others by hand: a minute or two each."""
  mark = pytest.mark.slow if source.stem.startswith("01") else pytest.mark.long
  return pytest.param(source, id=source.stem, marks=mark)


@pytest.mark.parametrize("source", map(_marked, SOURCES))
def test_the_notebook_runs(source, tmp_path, monkeypatch):
  # The kernel's devices are the machine's own, and so is its back end.
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  monkeypatch.setenv("PYTHONPATH", str(COLABS.parent))
  notebook = jupytext.read(source)
  start = time.monotonic()
  nbclient.NotebookClient(
    notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  print(f"{source.stem}: {time.monotonic() - start:.0f} s", os.cpu_count())
  images = [
    output
    for cell in notebook.cells
    for output in cell.get("outputs", ())
    if "image/png" in output.get("data", {})
  ]
  assert images, "a notebook shows a figure"
