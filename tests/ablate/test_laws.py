"""What a report says of a sweep of sizes and tokens whose law is known."""

import dataclasses
import re

import numpy as np
import pytest
from records import facts, run

from ablax.ablate import laws
from ablax.ablate.record import Record
from ablax.ablate.report import write_report
from ablax.ablate.table import tabulate

METRIC, BITS = "heldout/loss", "heldout/bits_per_byte"
A, B = 0.28 / 0.62, 0.34 / 0.62  # N_opt ~ C^a, D_opt ~ C^b


def true_loss(n, d):
  """Hoffmann et al. 2022, eq. 10 of section D.3."""
  return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def sweep(sizes=6, lengths=4, metric=METRIC, last=1.0):
  """A run for each size and number of tokens; `last` is what the largest is
  off by."""
  rng = np.random.default_rng(0)
  made = []
  for n in np.geomspace(5e7, 2e9, sizes).round().tolist():
    for d in np.geomspace(2e9, 8e11, lengths).round().tolist():
      loss = true_loss(n, d) * np.exp(0.002 * rng.standard_normal())
      steps = np.unique(np.geomspace(1, 1000, 60).round().astype(int)).tolist()
      curve = tuple((s, float(true_loss(n, s / 1000 * d))) for s in steps)
      made.append(
        run(
          f"n={n:.0f} d={d:.0f}",
          steps=1000,
          params=int(n),
          tokens=int(d),
          train_flops=6 * n * d,
          final={METRIC: loss, BITS: loss / 2},
          curves={"loss": curve, METRIC: curve[-1:]},
        )
      )
  worse = {key: value * last for key, value in made[-1].final.items()}
  made[-1] = dataclasses.replace(made[-1], final=worse)
  arms = [r.arm for r in made]
  return Record(facts(arms, (0,), metric=metric, fit="scaling"), tuple(made))


@pytest.fixture(scope="module")
def told():
  return laws.describe(sweep())


def exponents(line):
  found = re.search(r"N ~ C\^([\d.]+) .* D ~ C\^([\d.]+) ", line)
  return [float(x) for x in found.groups()]


def test_both_approaches_find_the_exponents_of_the_law(told):
  lines, _ = told
  for words in ("(approach 3)", "(approach 1)"):
    (line,) = (x for x in lines if words in x)
    assert exponents(line) == pytest.approx([A, B], abs=0.05)
  assert lines[0].startswith(f"{METRIC}: L(N, D) = E + ")


def test_the_largest_run_is_predicted_by_the_others(told):
  lines, figures = told
  (line,) = (x for x in lines if x.startswith("Held out"))
  assert "N = 2,000,000,000, D = 800,000,000,000" in line
  assert line.endswith(": inside.")
  (axes,) = figures["scaling"].axes
  assert len(axes.get_legend().get_texts()) == 2


def test_a_largest_run_that_breaks_the_law_is_said_to_be_outside():
  lines, _ = laws.describe(sweep(last=1.1))
  (line,) = (x for x in lines if x.startswith("Held out"))
  assert line.endswith(": outside.")


def test_what_too_few_runs_cannot_tell_is_said_in_a_line():
  lines, figures = laws.describe(sweep(sizes=2))
  assert figures == {} and len(lines) == 1
  assert lines[0].startswith("No scaling law is fitted: n_params has 2 value")
  three, _ = laws.describe(sweep(sizes=3))
  assert any(x.startswith("Approach 1 has no answer") for x in three)


def test_a_report_has_the_law_of_the_metric_that_it_compares(tmp_path):
  made = sweep(metric=BITS)
  table, names = write_report(made, tmp_path, METRIC, "min")
  assert "figures/scaling.pdf" in names and "figures/scaling.png" in names
  assert any(x.startswith(f"{METRIC}: L(N, D)") for x in table.notes)
  text = (tmp_path / "report.md").read_text(encoding="utf-8")
  assert "(figures/scaling.png)" in text and "approach 3" in text
  assert "approach 3" in (tmp_path / "table.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize(
  ("metric", "label"),
  [(METRIC, "heldout/loss (nats per token)"), (BITS, BITS)],
)
def test_the_figure_names_the_unit_of_its_metric(metric, label):
  _, figures = laws.describe(sweep(metric=metric))
  assert figures["scaling"].axes[0].get_ylabel() == label


def test_what_holds_for_all_arms_is_said_once():
  (note,) = [x for x in tabulate(sweep()).notes if "tested" in x]
  assert note == "No arm is tested: 1 seed; a test needs at least 2."
