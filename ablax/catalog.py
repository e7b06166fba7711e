"""`ablax catalog`: every technique, its config word, its file and its paper."""

import argparse
import ast
import dataclasses
import functools
import json
import pathlib
import sys
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from .__main__ import guarded
from .errors import UserError
from .features import FEATURES, Feature
from .registry import Registry

_EXAMPLES = """\
examples:
  ablax catalog                    # a table
  ablax catalog --json             # for machines, with the evidence
  ablax catalog --check=README.md  # is the README's table fresh?
"""

BEGIN = "<!-- catalog: begin; made by ablax catalog --write=README.md -->"
END = "<!-- catalog: end -->"


@dataclasses.dataclass(frozen=True)
class Row:
  """One technique.

  Attributes:
    word: the config key and value that choose it.
    file: relative to the root of the repository.
    against: what it is compared with that is independent of it; "" where its
      test files alone say so, and in a wheel, which has none.
    evidence: these test files, with commas between them.
  """

  kind: str
  name: str
  word: str
  technique: str
  paper: str
  file: str
  against: str
  evidence: str


ROOT = pathlib.Path(__file__).resolve().parent.parent


@functools.cache
def registries() -> tuple[Registry, ...]:
  """Every registry, from the tokens' way in to the weights' way out."""
  from .data.builders import CORPORA
  from .data.cleaning import CLEANERS
  from .data.sources import SOURCES
  from .data.tasks import TASKS
  from .data.tokenizers import TOKENIZERS
  from .infer.constraints import CONSTRAINTS
  from .infer.decoding import DECODERS
  from .infer.evals import EVALS
  from .infer.filters import FILTERS
  from .models.ffn import FFNS
  from .models.matmuls import MATMULS
  from .models.mixers import MIXERS
  from .models.norms import NORMS
  from .models.positions import POSITIONS
  from .models.routers import ROUTERS
  from .train.averages import AVERAGES
  from .train.objectives import OBJECTIVES
  from .train.optimizers import OPTIMIZERS
  from .train.schedules import SCHEDULES

  return (
    SOURCES,
    CLEANERS,
    CORPORA,
    TASKS,
    TOKENIZERS,
    MIXERS,
    POSITIONS,
    NORMS,
    FFNS,
    ROUTERS,
    MATMULS,
    OBJECTIVES,
    OPTIMIZERS,
    SCHEDULES,
    FILTERS,
    CONSTRAINTS,
    DECODERS,
    AVERAGES,
    EVALS,
  )


class Proof(NamedTuple):
  """A test file, and what it compares with."""

  file: str
  against: str


def proofs() -> dict[str, list[Proof]]:
  """Maps "kind:name" to the test files that declare it in `PROVES`.

  `AGAINST` beside it says what they compare with, for all, or for each. Read
  without importing: a test may need packages that are not installed.
  """
  found: dict[str, list[Proof]] = {}
  # Beside a wheel, a folder "tests" is somebody else's.
  if not (ROOT / "setup.py").exists():
    return found
  for file in sorted((ROOT / "tests").rglob("*.py")):
    said: dict[str, Any] = {"PROVES": (), "AGAINST": ""}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
      if not isinstance(node, ast.Assign):
        continue
      if (name := ast.unparse(node.targets[0])) in said:
        said[name] = ast.literal_eval(node.value)
    where, against = file.relative_to(ROOT).as_posix(), said["AGAINST"]
    for what in said["PROVES"]:
      text = against if isinstance(against, str) else against.get(what, "")
      found.setdefault(what, []).append(Proof(where, text))
  return found


def rows() -> list[Row]:
  """One row for each of ablax's own entries, then one for each feature."""
  found, proven = [], proofs()

  def row(kind: str, name: str, feature: Feature) -> Row:
    of = proven.get(f"{kind}:{name}", [])
    against = dict.fromkeys(proof.against for proof in of if proof.against)
    files = ",".join(proof.file for proof in of)
    return Row(
      kind,
      name,
      **feature._asdict(),
      against="; ".join(against),
      evidence=files,
    )

  for registry in registries():
    for name in registry.own:
      file = pathlib.Path(str(registry.module(name).__file__)).resolve()
      where = file.relative_to(ROOT).as_posix().removeprefix("ablax/")
      entry = Feature(registry.word(name), *registry.citation(name), where)
      found.append(row(registry.kind, name, entry))
  found.extend(row("feature", name, entry) for name, entry in FEATURES.items())
  return found


def markdown() -> str:
  """The README's table."""
  lines = [
    "| technique | config word | file | paper | against |",
    "|---|---|---|---|---|",
  ]
  for r in rows():
    cells = r.technique, f"`{r.word}`", f"[{r.file}]({r.file})", r.paper
    lines.append(f"| {' | '.join((*cells, r.against))} |")
  return "\n".join(lines)


def _spliced(text: str, file: pathlib.Path) -> str:
  if BEGIN not in text or END not in text:
    raise UserError(f"{file} lacks the marks {BEGIN!r} and {END!r}")
  before, rest = text.split(BEGIN)
  return f"{before}{BEGIN}\n{markdown()}\n{END}{rest.split(END)[1]}"


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(
    prog="ablax catalog",
    description="Lists every technique, its config word, file and paper.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  how = parser.add_mutually_exclusive_group()
  how.add_argument("--json", action="store_true", help="for machines")
  how.add_argument("--markdown", action="store_true", help="as in the README")
  how.add_argument(
    "--write", metavar="FILE", help="replace the table between FILE's marks"
  )
  how.add_argument(
    "--check", metavar="FILE", help="exit with 1 where FILE's table is stale"
  )
  given = parser.parse_args(argv)
  if given.json:
    print(json.dumps([dataclasses.asdict(r) for r in rows()], indent=2))
  elif given.markdown:
    print(markdown())
  elif given.write or given.check:
    file = pathlib.Path(given.write or given.check)
    if not file.is_file():
      raise UserError(f"there is no file {file}; name one with the table")
    text = file.read_text(encoding="utf-8")
    new = _spliced(text, file)
    if given.write:
      file.write_text(new, encoding="utf-8")
    elif new != text:
      print(f"{file}: the table is stale; run ablax catalog --write={file}")
      return 1
  else:
    table = Table("technique", "config word", "file", "paper", "evidence")
    for r in rows():
      against = f"against: {r.against}\n" if r.against else ""
      evidence = against + r.evidence.replace(",", "\n")
      table.add_row(r.technique, r.word, r.file, r.paper, evidence)
    Console().print(table)
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
