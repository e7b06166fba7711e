"""What a report says of a record, in Markdown, LaTeX, HTML and figures."""

import base64
import dataclasses
import html.parser
import io
import itertools
import os
import re
import shutil
import subprocess
import types

import numpy as np
import pytest
from PIL import Image
from records import METRIC, changed, drawn, each, facts, record, run
from scipy import stats

from ablax.ablate import drawing, figures, latex, markdown
from ablax.ablate import html as pages
from ablax.ablate.record import Record, write
from ablax.ablate.report import write_report
from ablax.ablate.scaling_figure import scaling
from ablax.ablate.table import tabulate
from ablax.errors import UserError
from ablax.report import main

PROVES = ("feature:report",)

SHIFTS = {"adamw": 0.0, "lion": 0.1, "muon": -0.1, "sophia": 0.001}
# The head of a PNG of 100 pixels' width.
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0d"
HOSTILE = r"<b>&amp;|_x_ **50%** $\a_{b}$ #1 ~^ \end{table} " "--'"


@pytest.fixture(scope="module")
def four():
  return record(drawn(SHIFTS))


def said(table, arm):
  (row,) = (row for row in table.rows if row.arm == arm)
  return row


def text_of(record, **how):
  return markdown.report(tabulate(record, **how), record, [])


def grid_of(text, title):
  """The cells of a table of the Markdown, without escapes."""
  part = text.split(f"## {title}\n")[1].split("\n## ")[0]
  lines = [x for x in part.splitlines() if x.startswith("|")]
  rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
  clean = [[re.sub(r"\\(.)", r"\1", c.strip()) for c in row] for row in rows]
  heads, _, *body = clean
  return [dict(zip(heads, row, strict=True)) for row in body]


def numbers(text):
  return [
    float(x) for x in re.findall(r"[+-]?\d+\.\d+", text.replace("−", "-"))
  ]


# The comparison.


def test_the_numbers_are_scipys(four):
  values = drawn(SHIFTS)
  rows = grid_of(text_of(four), "Verdict")
  p = []
  for row in rows:
    arm = row["arm"].strip("*")
    x = np.array(values[arm])
    mean, half, sd = numbers(row[METRIC])
    t = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert abs(mean - x.mean()) < 1e-3 and abs(sd - x.std(ddof=1)) < 1e-3
    assert abs(half - (t.high - t.low) / 2) < 1e-3
    if arm != "adamw":
      pair = stats.ttest_rel(x, values["adamw"])
      p.append((pair.pvalue, row))
      gap, low, high = numbers(row["difference"])
      assert low < gap < high and abs(gap - (x - values["adamw"]).mean()) < 1e-3
  for rank, (least, row) in enumerate(sorted(p, key=lambda x: x[0])):
    # Well apart, so that the step-down maximum changes nothing.
    holm = min(1, least * (3 - rank))
    shown = row["p (Holm)"]
    assert shown == "< 0.001" if holm < 0.001 else shown == f"{holm:.3f}"


def test_each_arm_gets_its_verdict_in_words(four):
  verdicts = {r.arm: r.verdict for r in tabulate(four).rows}
  assert verdicts == {
    "adamw": "baseline",
    "lion": "worse",
    "muon": "better",
    "sophia": "not separated",
  }
  # And the other way round where more is better.
  most = dataclasses.replace(four.facts, goal="max")
  other = tabulate(Record(most, four.runs))
  assert said(other, "lion").verdict == "better"
  assert said(other, "muon").verdict == "worse"


def bold_arms(table, rec):
  """The arms that each output stresses."""
  md = markdown.report(table, rec, [])
  tex = latex.table_tex(table)
  page = pages.report(table, rec, {})
  found = []
  for lines, mark in (
    ([x for x in md.splitlines() if "**" in x], r"\*\*(.+?)\*\*"),
    ([x for x in tex.splitlines() if r"\textbf" in x], r"\\textbf\{(.+?)\}"),
    ([x for x in page.splitlines() if "<strong>" in x], "<strong>(.+?)<"),
  ):
    stressed = [re.findall(mark, line) for line in lines]
    assert all(words[-1] == "better" for words in stressed)
    found.append([words[0] for words in stressed])
  assert not re.search(r"<b[ >]|<th[^>]*row", page) and "\\bf" not in tex
  return found


def test_only_a_better_and_separated_arm_is_ever_bold():
  seen = set()
  for seed, n, noise in itertools.product(range(2), (2, 3, 6), (0.01, 0.1)):
    shifts = {"adamw": 0.0, "a": -0.1, "b": 0.1, "c": 0.0}
    rec = record(drawn(shifts, n, seed, noise))
    table, want = tabulate(rec), []
    for arm in ("a", "b", "c"):
      row = said(table, arm)
      c = row.comparison
      if c.separated and c.high < 0:
        want.append(arm)
      elif c.low < 0 < c.high:
        assert row.verdict == "not separated"
      seen.add(row.verdict)
    assert bold_arms(table, rec) == [want] * 3
  assert seen == {"better", "worse", "not separated"}


def test_an_arm_that_lost_a_seed_is_shown_and_not_tested(four):
  rec = changed(four, "muon", 2, status="diverged", error="nan", final={})
  table = tabulate(rec)
  row = said(table, "muon")
  assert row.verdict == "not tested" and not row.bold and row.summary.n == 4
  text = text_of(rec)
  assert "muon is not tested: no value for seed 2 (diverged)." in text
  (line,) = (x for x in grid_of(text, "Verdict") if x["arm"] == "muon")
  assert line["seeds"] == "4 of 5" and line["difference"] == "–"
  (lost,) = grid_of(text, "Runs that did not finish")
  assert (lost["arm"], lost["seed"], lost["error"]) == ("muon", "2", "nan")
  # The correction is over the arms that are left.
  assert "Holm-corrected over 2 arms" in text
  assert "muon is not tested" in latex.table_tex(table)


def test_without_the_baselines_seed_nothing_is_tested(four):
  rec = changed(four, "adamw", 1, status="failed", error="a disk", final={})
  table = tabulate(rec)
  assert not table.tested
  (note,) = table.notes
  assert "the baseline, adamw, has no value for seed 1 (failed)" in note
  assert "No arm is tested." in text_of(rec)
  assert "no value for seeds 0 (not run), 1 (not run)" in text_of(
    Record(four.facts, four.runs[5:])
  )


def test_a_single_seed_is_shown_and_not_tested():
  rec = record({"adamw": [2.0], "lion": [1.0]})
  table = tabulate(rec)
  assert said(table, "lion").why == "1 seed; a test needs at least 2"
  (_, lion) = grid_of(text_of(rec), "Verdict")
  assert lion[METRIC] == "1.0000" and lion["verdict"] == "not tested"


def test_arms_of_several_sweeps_are_paired_by_the_seeds_of_each():
  rec = record({"adamw": [2.0, 2.1, 2.2, 2.4], "lion": [1.9, 2.0, 2.2]})
  assert said(tabulate(rec), "lion").verdict == "not tested"
  asked = dataclasses.replace(rec.facts, asked={"lion": (0, 1, 2)})
  row = said(tabulate(Record(asked, rec.runs)), "lion")
  assert row.comparison.n == 3
  assert abs(row.comparison.difference + 0.2 / 3) < 1e-9


def test_a_test_that_cannot_reject_is_named(four):
  few = text_of(record(drawn(SHIFTS, 3)))
  assert "With 3 seeds the sign-flip test cannot reject at 0.05 whatever" in few
  assert "its least p is 0.25." in few
  (line, *_) = grid_of(few, "Beside the verdict")
  assert line["p (sign-flip)"].endswith("(least 0.250)")
  assert "cannot reject" not in text_of(record(drawn(SHIFTS, 8)))


def test_another_metric_is_said_to_be_chosen_afterwards(four):
  table = tabulate(four, "loss")
  assert table.rows[0].summary.mean == pytest.approx(
    1 + said(tabulate(four), "adamw").summary.mean
  )
  assert "chosen afterwards" in table.notes[0] and METRIC in table.notes[0]
  assert tabulate(four, METRIC).notes == ()
  with pytest.raises(UserError, match="did you mean 'loss'"):
    tabulate(four, "losss")


def test_sizes_are_compared_with_the_baselines(four):
  rec = Record(
    four.facts,
    tuple(
      dataclasses.replace(r, params=1100, train_flops=3e6)
      if r.arm == "lion"
      else r
      for r in four.runs
    ),
  )
  (base, lion, muon, _) = grid_of(text_of(rec), "Size of the arms")
  assert base["parameters"] == "1.00 k" and lion["parameters"].endswith(
    "(+10.0 %)"
  )
  assert lion["training FLOPs"].endswith("(−50.0 %)")
  assert muon["parameters"] == "1.00 k (equal)"
  tex = latex.table_tex(tabulate(rec))
  assert r"+10.0 \%" in tex and r"$-$50.0 \%" in tex and "tokens" not in tex
  solved = dataclasses.replace(
    rec.facts, budget="flops", solved={"lion": {"model.ff_dim": 320}}
  )
  text = text_of(Record(solved, rec.runs))
  assert "equal flops, by the choice of model.ff_dim" in text
  assert grid_of(text, "Size of the arms")[1]["model.ff_dim"] == "320"


def test_a_run_that_was_cut_short_has_no_sizes_of_a_whole_one(four):
  nothing = {"params": 0, "memory_bytes": 0, "tokens": 0, "train_flops": 0.0}
  runs = []
  for r in four.runs:
    if r.arm == "lion":
      r = dataclasses.replace(r, status="failed", final={}, **nothing)
    if r.arm == "muon":
      r = dataclasses.replace(r, status="diverged", tokens=30, train_flops=6e4)
    runs.append(r)
  rec = Record(four.facts, tuple(runs))
  _, lion, muon, _ = grid_of(text_of(rec), "Size of the arms")
  assert [v for k, v in lion.items() if k != "arm"] == ["–"] * 4
  assert muon["parameters"] == "1.00 k (equal)" and muon["tokens"] == "–"
  assert "100.0" not in latex.table_tex(tabulate(rec))


def test_a_metric_per_token_is_refused_where_tokenizers_differ(four):
  rec = changed(four, "lion", 1, tokenizer="bpe")
  with pytest.raises(UserError, match="--metric=loss is per token"):
    tabulate(rec, "loss")
  assert tabulate(rec).metric == METRIC


def test_what_should_be_equal_and_is_not_is_noted_once(four):
  def notes(noted=(), **other):
    rec = changed(four, "lion", 1, **other)
    told = dataclasses.replace(rec.facts, notes=tuple(noted))
    return tabulate(Record(told, rec.runs)).notes

  assert notes() == ()
  assert "different code" in notes(code="2")[0] and len(notes(code="2")) == 1
  assert "bits per byte can" in notes(tokenizer="bpe")[0]
  assert "differ in their data" in notes(data_fingerprint="x")[0]
  given = ["On demand: other code."]
  assert list(notes(given, code="2")) == given
  assert given[0] in text_of(
    Record(dataclasses.replace(four.facts, notes=tuple(given)), four.runs)
  )


# Timings.


def test_timings_are_in_no_table_but_the_last(four):
  slow = each(four, seconds=777.0, tokens_per_s=3.0, peak_bytes=5)
  a, b = tabulate(four), tabulate(slow)
  assert latex.table_tex(a) == latex.table_tex(b)
  for write_out in (
    lambda t, r: markdown.report(t, r, ["curves", "pareto_time"]),
    lambda t, r: pages.report(t, r, {"curves": PNG, "pareto_time": PNG}),
  ):
    one, two = write_out(a, four), write_out(b, slow)
    assert one != two
    before = one.split("Costs, as measured")[0]
    assert before == two.split("Costs, as measured")[0]
    assert "curves" in before and "pareto_time" not in before
    # Below them is no other table.
    rest = one.split("Costs, as measured")[1]
    assert "## " not in rest and "<h2>" not in rest and "Made from" not in rest


# LaTeX.


def escaped():
  """A record whose every name is full of what LaTeX and HTML read."""
  arms = ("base", HOSTILE)
  runs = [
    run(arm, seed, 2.0 + seed - i, changes={HOSTILE: HOSTILE} if i else {})
    for i, arm in enumerate(arms)
    for seed in (0, 1)
  ]
  notes = (HOSTILE, "± − ∞ α é 数")
  return Record(facts(arms, (0, 1), claim=HOSTILE, notes=notes), tuple(runs))


def plain_tex(text):
  """Removes every escape that we write; what is left must be harmless."""
  text = re.sub(r"\\(text\w+|allowbreak|ldots)\{\}|\\char34\{\}", "", text)
  text = re.sub(r"\\[_{}%&#$]", "", text)
  return re.sub(r"\$(\\?[a-zA-Z]+|[<>-]|\^2)\$", "", text)


@pytest.mark.parametrize("text", [HOSTILE, *'\\{}_%&#$~^<>|"', "± é α 数 ²"])
def test_no_special_character_reaches_latex(text):
  left = plain_tex(latex.escape(text))
  assert not set(left) & set('\\_%&#$~^<>|"'), left
  assert left.count("{") == left.count("}")
  assert "数" not in left


def test_the_table_is_one_environment_with_even_rows():
  for rec in (escaped(), record(drawn(SHIFTS)), record({"only": [2.0, 1.0]})):
    tex = latex.table_tex(tabulate(rec))
    opened = []
    for kind, name in re.findall(r"(?m)^\s*\\(begin|end)\{(\w+)\}", tex):
      if kind == "begin":
        opened.append(name)
      else:
        assert opened.pop() == name
    assert not opened
    for rule in ("toprule", "midrule", "bottomrule", "caption{", "label{tab:"):
      assert f"\\{rule}" in tex
    assert not re.search(r"\\(hline|cline|usepackage)\b", tex.split("\n", 1)[1])
    for block in tex.split(r"\begin{tabular}")[1:]:
      rows = [x for x in block.splitlines() if r"\tabularnewline" in x]
      counts = {len(re.findall(r"(?<!\\)&", row)) for row in rows}
      spec = re.search(r"\{@\{\}(?:l|p\{[^}]*\})([lr]+)@\{\}\}", block)[1]
      assert counts == {len(spec)}
    depth = 0
    for c in re.sub(r"\\[{}\\]", "", tex):
      depth += (c == "{") - (c == "}")
      assert depth >= 0
    assert depth == 0


def test_the_caption_says_what_a_reader_must_know(four):
  tex = latex.table_tex(tabulate(four))
  caption = re.search(r"\\caption\{(.*)\}\n", tex)[1]
  for words in (
    "Lion beats AdamW.",
    r"bits\_\allowbreak{}per\_\allowbreak{}byte (lower is better)",
    "mean over 5 seeds",
    r"$\pm$ half of its 95 \% t interval",
    "Holm's correction over 3 arms",
    "Bold: better than the baseline, and separated from it.",
  ):
    assert words in caption
  assert "At toy scale" not in caption


@pytest.mark.slow
def test_the_table_compiles_with_plain_latex(tmp_path):
  if not shutil.which("pdflatex"):
    pytest.skip("there is no pdflatex")
  many = {f"an-arm-of-a-long-name_{i}-and-more": -0.01 * i for i in range(12)}
  for i, rec in enumerate(
    (escaped(), record(drawn(SHIFTS)), record(drawn(many)))
  ):
    (tmp_path / "table.tex").write_text(latex.table_tex(tabulate(rec)))
    (tmp_path / f"{i}.tex").write_text(
      "\\documentclass{article}\\usepackage{booktabs}\n"
      "\\begin{document}\\input{table.tex}\\end{document}\n"
    )
    done = subprocess.run(
      ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{i}.tex"],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout


# All of it.


class Page(html.parser.HTMLParser):
  """Fails on tags that do not match; gathers what the page refers to."""

  def __init__(self):
    super().__init__()
    self.open, self.links, self.tags, self.text = [], [], set(), []

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.links += [v for k, v in attrs if k in ("src", "href", "srcset")]
    assert not [k for k, _ in attrs if k.startswith("on")]
    if tag not in ("meta", "img", "br", "link"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def read_page(text):
  page = Page()
  page.feed(text)
  assert not page.open
  return page


@pytest.fixture(scope="module")
def written(four, tmp_path_factory):
  folder = tmp_path_factory.mktemp("report")
  table, names = write_report(four, folder)
  return folder, table, names


def test_the_page_holds_its_figures_and_asks_nobody(written):
  folder, _, names = written
  text = (folder / "report.html").read_text(encoding="utf-8")
  page = read_page(text)
  assert "script" not in page.tags and "link" not in page.tags
  assert not re.search(
    r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", text)
  )
  pngs = [n for n in names if n.endswith(".png")]
  assert len(page.links) == len(pngs) > 1
  inside = set()
  for link in page.links:
    assert link.startswith("data:image/png;base64,")
    data = base64.b64decode(link.partition(",")[2], validate=True)
    Image.open(io.BytesIO(data)).verify()
    inside.add(data)
  assert inside == {(folder / name).read_bytes() for name in pngs}


def test_hostile_names_are_text_on_the_page_and_in_markdown():
  rec = escaped()
  page = read_page(pages.report(tabulate(rec), rec, {}))
  assert "b" not in page.tags
  assert page.text.count(HOSTILE) >= 3  # claim, note, arm
  text = text_of(rec)
  rows = grid_of(text, "Verdict")
  assert rows[1]["arm"].strip("*") == " ".join(HOSTILE.split())


def test_markdown_names_figures_that_are_there(written):
  folder, _, names = written
  text = (folder / "report.md").read_text(encoding="utf-8")
  shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
  assert shown and all((folder / name).is_file() for name in shown)
  assert {n for n in names if n.endswith(".png")} == set(shown)
  assert "Made from 20 runs" in text


def test_figures_come_as_pdf_and_png_and_bear_no_date(written):
  folder, _, names = written
  drawn_ = [n for n in names if n.startswith("figures/")]
  assert {n.rpartition(".")[0] for n in drawn_} >= {
    "figures/curves",
    "figures/differences",
  }
  for name in drawn_:
    data = (folder / name).read_bytes()
    assert data[:5] == (b"%PDF-" if name.endswith("pdf") else b"\x89PNG\r")
    assert b"CreationDate" not in data and b"Matplotlib" not in data


def test_a_second_report_has_the_same_bytes(written, four, tmp_path):
  folder, _, names = written
  write_report(each(four, seconds=99.0, tokens_per_s=2.0), tmp_path)
  for name in names:
    same = (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    timed = "_time" in name or name in ("report.md", "report.html")
    assert same or timed, name


@pytest.mark.parametrize(
  "values",
  [
    {"only": [2.0]},
    {"adamw": [2.0, 2.0], "lion": [2.0, 2.0]},
    {f"arm-{i}-" + "of-a-long-name" * 4: [2.0 - i] for i in range(12)},
  ],
  ids=["one arm", "two equal arms", "twelve long names"],
)
def test_any_number_of_arms_is_drawn(values, tmp_path):
  rec = record(values)
  sized = [
    dataclasses.replace(r, params=1000 + 10 * i, seconds=1.0 + i)
    for i, r in enumerate(rec.runs)
  ]
  _, names = write_report(Record(rec.facts, tuple(sized)), tmp_path)
  assert "figures/curves.png" in names and "report.md" in names
  assert ("figures/pareto.png" in names) == (len(values) > 1)


def test_a_sweep_of_which_nothing_finished_is_reported(tmp_path, four):
  rec = each(four, status="failed", error="no", final={}, curves={})
  _, names = write_report(rec, tmp_path)
  assert names == ["table.tex", "report.html", "report.md"]


# How figures are laid out.


def test_labels_are_apart_and_as_near_as_can_be():
  assert drawing.spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
  assert np.allclose(drawing.spread([0.5, 0.5], 0.2), [0.4, 0.6])
  rng = np.random.default_rng(0)
  for n in (1, 2, 5, 12):
    wanted = rng.uniform(size=n)
    got = np.array(drawing.spread(wanted.tolist(), 0.1))
    assert (np.diff(np.sort(got)) > 0.1 - 1e-9).all()
    assert (np.argsort(got) == np.argsort(wanted)).all()
    # Least squares under the gaps, by another way: isotonic regression.
    order = np.argsort(wanted)
    even = 0.1 * np.arange(n)
    best = isotonic(wanted[order] - even) + even
    assert np.allclose(got[order], best)


def isotonic(y):
  """The max-min formula of isotonic regression."""
  n = len(y)
  return np.array(
    [
      max(min(y[a : b + 1].mean() for b in range(i, n)) for a in range(i + 1))
      for i in range(n)
    ]
  )


@pytest.mark.parametrize("goal", ["min", "max"])
def test_the_front_is_what_none_beats_in_both(goal):
  rng = np.random.default_rng(1)
  sign = 1 if goal == "min" else -1
  for _ in range(30):
    points = [
      tuple(p) for p in rng.integers(0, 6, (8, 2)).astype(float).tolist()
    ]
    beaten = {
      p
      for p in points
      for q in points
      if q != p and q[0] <= p[0] and sign * q[1] <= sign * p[1]
    }
    front = [points[i] for i in figures.front(points, goal)]
    assert set(front) == set(points) - beaten and len(front) == len(set(front))
    assert front == sorted(front)


class Law:
  """L = 2 + 100 / N + 10 / D, sure to 0.1."""

  n_params = np.array([100.0, 200.0, 400.0])
  n_tokens = np.array([10.0, 20.0, 20.0])
  loss = np.array([4.0, 3.0, 2.75])

  def predict(self, n_params, n_tokens):
    loss = 2 + 100 / n_params + 10 / n_tokens
    return types.SimpleNamespace(loss=loss, low=loss - 0.1, high=loss + 0.1)


def test_a_scaling_law_is_drawn_with_what_it_predicts(tmp_path):
  figure = scaling(Law(), [(800.0, 20.0, 2.7)])
  (axes,) = figure.axes
  # A curve for each number of tokens, over all runs.
  curves = [
    line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 2
  ]
  assert [(c[0][0], c[-1][0]) for c in curves] == [(100, 800)] * 2
  assert curves[0][0][1] == pytest.approx(4.0)
  assert curves[1][-1][1] == pytest.approx(2.625)
  texts = [t.get_text() for t in axes.texts]
  assert texts == ["10 tokens", "20 tokens"]
  assert len(axes.get_legend().get_texts()) == 2
  rec = record({"only": [2.0]})
  _, names = write_report(rec, tmp_path, more={"scaling": figure})
  assert "figures/scaling.pdf" in names
  assert "(figures/scaling.png)" in (tmp_path / "report.md").read_text()
  # Of many numbers of tokens a few are drawn.
  many = [(9.0, d, 3.0) for d in np.geomspace(10.0, 90.0, 9).tolist()]
  assert len(scaling(Law(), many).axes[0].texts) == 5


# The command.


def test_the_command_rebuilds_all_from_the_record(written, four, tmp_path):
  folder, _, names = written
  write(four, tmp_path)
  assert main([str(tmp_path)]) == 0
  for name in names:
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_command_merges_and_leaves_the_sweeps_alone(tmp_path, capsys):
  a, b = f"memory://sweep-{os.getpid()}", str(tmp_path / "b")
  write(record({"adamw": [2.0, 2.1], "lion": [1.9, 2.1]}), a)
  write(record({"adamw": [2.0, 2.1], "muon": [1.8, 1.8]}, name="more"), b)
  out = tmp_path / "both"
  assert main([a, b, f"--out={out}", "--metric=loss"]) == 0
  shown = capsys.readouterr().out
  assert "muon" in shown and "chosen afterwards" in shown
  assert "optimizers+more" in (out / "report.md").read_text(encoding="utf-8")
  assert (out / "runs.parquet").is_file()
  assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [
    "runs.csv",
    "runs.parquet",
  ]
  # However its name is written, a sweep's own record stays.
  before = (tmp_path / "b/runs.parquet").read_bytes()
  assert main([b, a, f"--out={tmp_path}/both/../b"]) == 0
  assert (tmp_path / "b/runs.parquet").read_bytes() == before
  with pytest.raises(UserError, match="--metric=x is not in any run"):
    main([b, "--metric=x", f"--out={tmp_path / 'none'}"])
  assert not (tmp_path / "none").exists()
