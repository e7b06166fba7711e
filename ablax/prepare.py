"""`ablax prepare`: cleans, splits, tokenizes and packs a config's text."""

import argparse
import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from .__main__ import guarded
from .errors import UserError

_EXAMPLES = """\
examples:
  ablax prepare --config=configs/lm/tiny.py
  ablax prepare --config=configs/lm/tiny.py --workers=8 \\
    --config.data.clean=gopher,toxicity,exact,minhash
  ablax prepare --config=configs/lm/tiny.py --json > report.json
"""


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(
    prog="ablax prepare",
    usage="ablax prepare --config=FILE [--config.KEY=VALUE ...] [options]",
    description="Cleans, splits, tokenizes and packs the text of a config,"
    " once: training then finds it in the cache. Says what was dropped and why."
    " A run that is killed goes on where it was.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--config", metavar="FILE", help="config file, by path")
  parser.add_argument(
    "--workers",
    type=int,
    default=os.cpu_count() or 1,
    metavar="N",
    help="processes (default: one for each core); any number gives the same",
  )
  parser.add_argument(
    "--beam",
    metavar="FLAGS",
    help="clean by Apache Beam with these pipeline options, as in"
    " --beam='--runner=DirectRunner --direct_num_workers=8'",
  )
  parser.add_argument("--json", action="store_true", help="for machines")
  from .train.config import load
  from .train.config_files import split_args

  path, overrides, rest = split_args(argv)
  given = parser.parse_args(rest)
  if not path:
    raise UserError("--config=FILE is missing; try --config=configs/lm/tiny.py")
  if given.workers < 1:
    raise UserError(f"--workers={given.workers} must be at least 1")
  config = load(path, overrides)
  if task := config.data.task:
    raise UserError(
      f"data.task={task!r} makes its rows while it trains, and there is nothing"
      " to prepare; go on with ablax train, or prepare a config of text"
    )

  from .data.prepare import read_and_pack
  from .data.report import report, report_file

  corpus, prepared = read_and_pack(
    config.data,
    progress=sys.stderr.isatty(),
    workers=given.workers,
    beam=given.beam,
  )
  n_rows = config.steps * config.data.batch_size
  found = report(config.data, corpus, prepared, n_rows)
  file = report_file(found)
  file.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(found, indent=2, ensure_ascii=False)
  file.write_text(text, encoding="utf-8")
  if given.json:
    print(text)
  else:
    _show(found, Console())
    print(f"\nreport: {file}")
    for part in prepared.parts:
      print(f"rows of {part.name}: {part.folder}")
  prepared.check_epochs(n_rows)
  return 0


def _show(found: dict[str, Any], console: Console) -> None:
  table = Table(
    title=f"{found['tokenizer']} of {found['vocab_size']:,}, rows of"
    f" {found['seq_len']}"
  )
  table.add_column("source", overflow="fold")
  for name in [
    "read",
    "dropped",
    "MB",
    "tokens",
    "B/token",
    "rows",
    "share",
    "epochs",
  ]:
    table.add_column(name, justify="right")
  for source in found["sources"]:
    table.add_row(
      source["name"],
      f"{source['documents']:,}",
      f"{source['dropped_documents']:,}",
      f"{(source['train_bytes'] + source['heldout_bytes']) / 1e6:.2f}",
      f"{source['train_tokens'] / 1e6:.2f}M",
      f"{source['bytes_per_token']:.2f}",
      f"{source['train_rows']:,}",
      f"{source['share']:.1%}",
      f"{source['epochs']:.2f}",
    )
  console.print(table)
  if found["dropped"]:
    table = Table("reason", "documents", "MB", "the first", title="dropped")
    for reason, counts in found["dropped"].items():
      table.add_row(
        reason,
        f"{counts['documents']:,}",
        f"{counts['bytes'] / 1e6:.2f}",
        _sample(found["samples"][reason][0]),
      )
    console.print(table)
  if found["notes"]:
    table = Table("note", "documents", "kept", "MB", title="noted")
    for note, counts in found["notes"].items():
      table.add_row(
        note,
        f"{counts['documents']:,}",
        f"{counts['kept']:,}",
        f"{counts['bytes'] / 1e6:.2f}",
      )
    console.print(table)
  for step, facts in found["facts"].items():
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    console.print(f"{step}: {said}", markup=False)


def _sample(sample: dict[str, str]) -> str:
  """One line: the document's name, what it repeats, and how it begins."""
  from rich.markup import escape

  words = " ".join(sample["text"].split())
  name = sample["name"] + (f" = {sample['of']}" if "of" in sample else "")
  return escape(f"{name}: {words[:60]}")


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
