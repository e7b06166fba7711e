"""The ablations of the repository, and the results that come with them."""

import pathlib

import pytest

from ablax.ablate import latex, markdown
from ablax.ablate.record import read
from ablax.ablate.sweep import load_sweep, with_seed
from ablax.ablate.table import tabulate

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs/ablations").glob("*.py"))
RESULTS = sorted(p for p in (ROOT / "docs/ablations").iterdir() if p.is_dir())


def name(path):
  return path.stem


def config_of(folder):
  """NAME.py, or NAME.py:ARGUMENT of a folder NAME_ARGUMENT."""
  if folder.name in map(name, CONFIGS):
    return f"configs/ablations/{folder.name}.py"
  stems = [f.stem for f in CONFIGS if folder.name.startswith(f"{f.stem}_")]
  stem = max(stems, key=len)
  return f"configs/ablations/{stem}.py:{folder.name.removeprefix(f'{stem}_')}"


@pytest.mark.parametrize("file", CONFIGS, ids=name)
def test_an_ablation_says_its_claim_its_command_and_its_cost(file):
  sweep = load_sweep(str(file))
  assert sweep.claim.split("\n")[0].endswith(".")
  assert f"ablax ablate --config=configs/ablations/{file.name}" in sweep.claim
  assert "\nCost: " in sweep.claim
  assert any(
    config_of(r).startswith(f"configs/ablations/{file.name}") for r in RESULTS
  )


@pytest.mark.parametrize("folder", RESULTS, ids=name)
def test_shipped_results_are_those_of_the_config(folder):
  record = read(folder)
  sweep = load_sweep(config_of(folder))
  sweep = sweep.with_solved(record.facts.solved)
  assert sweep.names == record.facts.arms
  assert len(record.runs) == len(sweep.names) * len(record.facts.seeds)
  for run in record.runs:
    assert run.status == "finished"
    assert run.config_hash == with_seed(sweep[run.arm].config, run.seed).hash


@pytest.mark.parametrize("folder", RESULTS, ids=name)
def test_shipped_reports_are_what_their_records_give(folder):
  record = read(folder)
  if record.facts.fit:
    pytest.skip("a bootstrap of seconds; tests/ablate/test_laws.py has one")
  table = tabulate(record)
  again = f"make it anew: ablax report docs/ablations/{folder.name}"
  assert latex.table_tex(table) == (folder / "table.tex").read_text(), again
  report = (folder / "report.md").read_text()
  names = [line for line in report.split("\n") if line.startswith("![")]
  figures = [line[2:].split("]")[0] for line in names]
  assert markdown.report(table, record, figures) == report, again
  for figure in figures:
    assert (folder / "figures" / f"{figure}.png").is_file()
