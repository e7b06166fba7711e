r"""A comparison as table.tex: needs booktabs and nothing else.

It holds no timing, so that equal results give equal bytes.
"""

from . import grids
from .table import Row, Table

# What LaTeX reads as a command, and what its default encoding lacks.
_SPECIAL = {
  "\\": r"\textbackslash{}",
  "{": r"\{",
  "}": r"\}",
  "_": r"\_\allowbreak{}",
  "%": r"\%",
  "&": r"\&",
  "#": r"\#",
  "$": r"\$",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "<": "$<$",
  ">": "$>$",
  "|": r"\textbar{}",
  # \textquotedbl needs T1 fonts; the letter itself is a closing quote.
  '"': r"\char34{}",
  "±": r"$\pm$",
  "−": r"$-$",
  "∞": r"$\infty$",
  "×": r"$\times$",
  "·": r"$\cdot$",
  "≤": r"$\le$",
  "≥": r"$\ge$",
  "≠": r"$\ne$",
  "≈": r"$\approx$",
  "→": r"$\to$",
  "µ": r"$\mu$",
  "–": r"\textendash{}",
  "—": r"\textemdash{}",
  "²": "$^2$",
  "°": r"$^\circ$",
  "…": r"\ldots{}",
  "‘": "`",
  "’": "'",
  "“": "``",
  "”": "''",
  "\u00a0": "~",
}
_GREEK = {
  letter: rf"$\{name}$"
  for letter, name in zip(
    "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi"
    " pi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi"
    " Sigma Phi Psi Omega".split(),
    strict=True,
  )
}
# Latin-1's letters, as far as LaTeX's default fonts (OT1) have them.
_ACCENTED = frozenset(
  "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœ"
)


def escape(text: str) -> str:
  """Text for plain LaTeX; Latin letters with accents it reads itself.

  A letter of another script stands as its code point: pdflatex stops at one
  that its fonts lack.
  """
  known = _SPECIAL | _GREEK

  def letter(c: str) -> str:
    if c in known:
      return known[c]
    if ord(c) < 128:
      return c if c.isprintable() else " "
    return c if c in _ACCENTED else f"[U+{ord(c):04X}]"

  # Two hyphens in a row are a dash; a flag's are not.
  return "".join(map(letter, " ".join(text.split()))).replace("--", "-{}-")


def table_tex(table: Table) -> str:
  """One table environment, with caption and label."""
  blocks = [_verdicts(table)]
  if shown := _unequal(table):
    blocks.append(_sizes(table, shown))
  return "\n".join(
    [
      r"% Needs \usepackage{booktabs}.",
      r"\begin{table}",
      r"  \centering",
      r"  \footnotesize",
      r"  \setlength{\tabcolsep}{3.5pt}",
      rf"  \caption{{{_caption(table)}}}",
      rf"  \label{{tab:{_label(table.facts.name)}}}",
      r"  \smallskip",
      "\n\n  \\medskip\n".join(blocks),
      r"\end{table}",
      "",
    ]
  )


def _verdicts(table: Table) -> str:
  digits = grids.digits_of(table)
  # The caption has the number where it is one for all.
  counted = len({grids.seeds(row) for row in table.rows}) > 1

  def cells(row: Row) -> list[str]:
    c = row.comparison
    texts = [
      row.arm,
      *([grids.seeds(row)] if counted else []),
      grids.mean(row, digits, with_sd=False),
      grids.symmetric(row, digits),
      grids.chance(c.p_holm) if c else grids.NONE,
      grids.effect(row),
      row.verdict,
    ]
    escaped = [escape(text) for text in texts]
    if row.bold:
      for i in (0, 2 if counted else 1, -1):
        escaped[i] = rf"\textbf{{{escaped[i]}}}"
    return escaped

  heads = ["arm", *(["seeds"] if counted else []), "mean", "difference"]
  heads += ["$p$", "$d_z$", "verdict"]
  numbers = "r" * (len(heads) - 2)
  return _tabular(f"{numbers}l", heads, [cells(row) for row in table.rows])


def _unequal(table: Table) -> list[str]:
  """The sizes in which arms differ, where no budget made them equal."""
  return [
    key
    for key in grids.SIZE_NAMES
    if not table.facts.budget
    and any(abs(row.relative.get(key, 0)) >= 0.0005 for row in table.rows)
  ]


def _sizes(table: Table, shown: list[str]) -> str:
  def cell(row: Row, key: str) -> str:
    if key not in row.relative:
      return escape(grids.NONE)
    if row.arm == table.facts.baseline:
      return escape(grids.amount(key, row.sizes[key]))
    return escape(grids.percent(row.relative[key]))

  rows = [
    [escape(row.arm), *(cell(row, key) for key in shown)] for row in table.rows
  ]
  heads = ["arm", *(escape(grids.SIZE_NAMES[key]) for key in shown)]
  return _tabular("r" * len(shown), heads, rows)


def _tabular(columns: str, heads: list[str], rows: list[list[str]]) -> str:
  # A long name breaks; a column as wide as the short ones leaves more room.
  long = max(len(row[0]) for row in rows) > 20
  first = r"p{0.23\textwidth}" if long else "l"
  baseline, *arms = ["    " + _line(row, long) for row in rows]
  return "\n".join(
    [
      rf"  \begin{{tabular}}{{@{{}}{first}{columns}@{{}}}}",
      r"    \toprule",
      "    " + _line(heads, long),
      r"    \midrule",
      baseline,
      *([r"    \midrule", *arms] if arms else []),
      r"    \bottomrule",
      r"  \end{tabular}",
    ]
  )


def _line(cells: list[str], long: bool) -> str:
  first, *rest = cells
  if long:
    first = rf"\raggedright\hangindent=1em {first}"
  # As \raggedright takes \\ for itself.
  return " & ".join([first, *rest]) + r" \tabularnewline"


def _label(name: str) -> str:
  return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


def _caption(table: Table) -> str:
  facts = table.facts
  claim = next((x for x in facts.claim.splitlines() if x.strip()), facts.name)
  confidence = grids.level(1 - facts.alpha)
  counts = sorted({len(row.values) for row in table.rows})
  n = str(counts[0])
  if len(counts) > 1:
    n = f"{counts[0]} to {counts[-1]}"
  mean = f"mean over {n} seeds ± half of its {confidence} t interval"
  if counts == [1]:
    mean = "of one seed"
  said = [
    claim.strip().rstrip(".") + ".",
    f"{table.metric} ({grids.direction(table)}), {mean}.",
  ]
  if table.tested:
    said.append(
      f"Difference from {facts.baseline}, paired by seed, ± half of its t"
      " interval at the level of Holm's correction over"
      f" {grids.many(len(table.tested), 'arm')}; p of the paired t test, so"
      " corrected; standardized difference (Hedges)."
    )
    said.append("Bold: better than the baseline, and separated from it.")
  if _unequal(table):
    said.append("Below, by how much the arms differ in size.")
  if facts.budget:
    said.append(f"All arms have equal {facts.budget}.")
  text = escape(" ".join(said))
  notes = " ".join(escape(note) for note in table.notes)
  return f"{text} {notes}".strip()
