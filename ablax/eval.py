"""`ablax eval`: measures a trained model on texts, questions and tasks."""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .__main__ import guarded
from .errors import UserError
from .flags import Parser, add_flags, given, whole_number, with_hyphens
from .infer.evals import EVALS, Line, Source, read_lines

_EXAMPLES = """\
examples:
  ablax eval runs/tiny                         # its own held-out text
  ablax eval runs/tiny --text=notes/ --out=notes.json
  ablax eval runs/tiny --file=examples/tasks/code_choice.jsonl
  ablax eval runs/tiny --file=examples/tasks/code_completion.jsonl \
    --max-tokens=8 --normalize=squad
  ablax eval runs/tiny --lm-eval=examples/tasks/code_choice.yaml
"""


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
  parser = Parser(
    prog="ablax eval",
    usage="ablax eval RUN [--tasks=NAME,...] [--file=FILE ...] [options]",
    description=(
      "Measures a trained model: perplexity of the run's held-out text or of"
      " --text, multiple choice and generation on the lines of --file, and"
      " tasks of lm-evaluation-harness."
    ),
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("workdir", metavar="RUN", help="workdir of the training run")
  add(
    "--step",
    type=whole_number,
    metavar="N",
    help="update whose checkpoint to load; default: the latest",
  )
  add(
    "--tasks",
    metavar="NAMES",
    help=f"with commas: {', '.join(EVALS)}, or one of the run's plugins;"
    " default: what the files are for, or perplexity",
  )
  add(
    "--file",
    action="append",
    default=[],
    metavar="FILE",
    help="JSON Lines of questions or prompts; may be given several times",
  )
  add(
    "--text",
    action="append",
    default=[],
    metavar="PATH",
    help="a file or folder of text, for perplexity, in place of the run's own"
    " held-out text; may be given several times",
  )
  add(
    "--lm-eval",
    metavar="YAML",
    help="local tasks of lm-evaluation-harness, with commas",
  )
  add(
    "--rows",
    type=whole_number,
    metavar="N",
    help="rows that are computed together; default: 4 on a CPU, else 32",
  )
  add("--json", action="store_true", help="one JSON object")
  add(
    "--out",
    metavar="FILE",
    help="write the JSON to FILE, and perplexity's figure beside it, as .png;"
    " without it the figure is RUN/perplexity.png",
  )
  for name in names:
    options = EVALS.options(name)
    fields = [field.name for field in dataclasses.fields(options)]
    add_flags(parser, f"options of {name}", options, fields)
  return parser


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """The arguments, and the evaluations that --tasks names."""
  argv = with_hyphens(argv)
  first = Parser(add_help=False, allow_abbrev=False)
  first.add_argument("workdir", nargs="?", default="")
  first.add_argument("--tasks", default="")
  known, _ = first.parse_known_args(argv)
  named = [name for name in known.tasks.split(",") if name]
  if any(name not in EVALS for name in named):
    _load_plugins(pathlib.Path(known.workdir).expanduser())
  for name in named:
    EVALS.module(name)  # an unknown one is told
  return _parser(tuple(EVALS)).parse_args(argv), named


def _load_plugins(workdir: pathlib.Path) -> None:
  """Those of the run's config, where there is a run."""
  from .train.config_files import load_plugins
  from .train.workdir import read_run

  if (workdir / "config.json").is_file():
    load_plugins(tuple(read_run(workdir)["config"]["plugins"]))


def _by_task(files: Sequence[str], named: list[str]) -> dict[str, list[Line]]:
  """Which evaluation gets which lines.

  A file is for the one that was named, or whose field its first line has.
  """
  found: dict[str, list[Line]] = {}
  readers = {name: EVALS[name].field for name in named or EVALS}
  readers = {name: field for name, field in readers.items() if field}
  for file in files:
    lines = read_lines(pathlib.Path(file))
    suiting = [n for n, field in readers.items() if field in lines[0].fields]
    if not suiting and len(readers) == 1 and named:
      suiting = list(readers)  # which says what is missing
    if len(suiting) != 1:
      fields = " or ".join(f"{f!r} ({n})" for n, f in readers.items())
      raise UserError(
        f"{lines[0].where} has the fields {', '.join(lines[0].fields)}, and"
        + (
          f" exactly one of {fields} tells what a file is for; name one"
          " evaluation with --tasks"
          if readers
          else f" --tasks={','.join(named)} reads no file; drop --file"
        )
      )
    found.setdefault(suiting[0], []).extend(lines)
  for name in named:
    if EVALS[name].field and name not in found:
      raise UserError(
        f"--tasks={name} reads a file; give --file=FILE.jsonl, whose lines have"
        f" the field {EVALS[name].field!r}"
      )
  return found


def _load(workdir: pathlib.Path, step: int | None) -> tuple[Any, ...]:
  """Config, weights, tokenizer and the step that they are of."""
  from .train.checkpoint import Checkpoints, load_model

  if step is None and (workdir / "checkpoints").is_dir():
    checkpoints = Checkpoints(workdir)
    # Named, so that what is reported is what was loaded.
    step = max(checkpoints.steps(), default=None)
    checkpoints.close()
  return *load_model(workdir, step), step


def _heldout(
  workdir: pathlib.Path, config: Any, tokenizer: Any
) -> list[Source]:
  """The run's own held-out text, packed as the run packs it."""
  from .data.corpus import Corpus
  from .data.pipeline import heldout_batches
  from .data.prepare import pack_corpus
  from .infer.score import Row
  from .train.workdir import read_run

  if task := config.data.task:
    raise UserError(
      f"{workdir} was trained on data.task={task!r}, of which no text is held"
      f" out; its scores are in its log (ablax info {workdir}), and --text or"
      " --file names what else to measure"
    )
  corpus = Corpus(config.data)
  prepared = pack_corpus(config.data, corpus, fixed=tokenizer)
  then = read_run(workdir).get("data_fingerprint")
  if then != prepared.fingerprint:
    raise UserError(
      f"{workdir} was trained on other data ({str(then)[:10]}, and it is"
      f" {prepared.fingerprint[:10]} now), so that what is held out now may"
      " have been trained on; bring the data back, or name a text with --text"
    )

  def rows(part: int) -> Iterator[Row]:
    for batch in heldout_batches(prepared, config.data, part=part):
      keys = ("tokens", "targets", "segment_ids", "positions")
      for i in np.flatnonzero(batch["row"] >= 0):
        yield Row(*(batch[key][i] for key in keys))

  def source(i: int) -> Source:
    part = prepared.parts[i]

    def documents() -> Iterator[list[int]]:
      for text in corpus.heldout("reading held-out text", i):
        yield tokenizer.encode(text.text)

    return Source(part.name, rows(i), documents, lambda: part.heldout_bytes)

  return [source(i) for i in range(len(prepared.parts))]


def _text(path: str, config: Any, tokenizer: Any) -> Source:
  """A text of the user's, packed as the run's."""
  from .data.packing import pack
  from .data.sources.text import Options, Text
  from .infer.score import Row

  if not pathlib.Path(path).expanduser().exists():
    raise UserError(f"--text={path}: there is no such file or folder")
  text, n_bytes = Text(Options((path,))), 0

  def documents() -> Iterator[list[int]]:
    nonlocal n_bytes
    n_bytes = 0
    try:
      for document in text.documents():
        n_bytes += len(document.text.encode())
        yield tokenizer.encode(document.text)
    except UserError as error:
      message = str(error).replace("data.opts.text.paths", "--text")
      raise UserError(message) from None

  packed = pack(
    documents(),
    config.data.seq_len,
    bos_id=tokenizer.bos_id,
    eos_id=tokenizer.eos_id,
    pad_id=tokenizer.pad_id,
  )
  return Source(path, (Row(*row) for row in packed), documents, lambda: n_bytes)


def _show(results: Mapping[str, Any], evals: Mapping[str, Any]) -> None:
  from rich.table import Table

  from .infer.evals import Shown
  from .train.report import make_console

  console = make_console()
  shown = [
    table for name, e in evals.items() for table in e.show(results[name])
  ]
  for task, metrics in results.get("lm_eval", {}).items():
    rows = [(k, f"{v:.4f}") for k, v in metrics.items() if isinstance(v, float)]
    shown.append(Shown(f"lm-eval: {task}", ("metric", "value"), rows))
  for one in shown:
    caption = one.caption or None
    table = Table(*one.columns, title=one.title, caption=caption)
    for row in one.rows:
      table.add_row(*row)
    console.print(table)


def main(argv: list[str]) -> int:
  args, named = _parse(argv)
  lines = _by_task(args.file, named)
  if args.text and named and "perplexity" not in named:
    raise UserError(
      f"--text={args.text[0]} is for perplexity; add it to --tasks, or drop"
      " --text"
    )
  seen = set()
  for path in args.text:
    place = pathlib.Path(path).expanduser().resolve()
    if place in seen:
      raise UserError(
        f"--text={path} comes twice, and would be counted twice; give it once"
      )
    seen.add(place)
  names = named or [
    *(["perplexity"] if args.text or not (lines or args.lm_eval) else []),
    *lines,
  ]
  evals = {}
  for name in names:
    options = EVALS.options(name)
    evals[name] = EVALS[name](options(**given(args, options)))
  out = pathlib.Path(args.out) if args.out else None
  if out and not out.parent.is_dir():
    raise UserError(f"--out={out}: there is no folder {out.parent}; make it")
  if args.lm_eval:
    from .harness import find

    find(args.lm_eval.split(","))

  from .infer.score import Scorer
  from .train.logs import finite

  workdir = pathlib.Path(args.workdir).expanduser()
  config, params, tokenizer, step = _load(workdir, args.step)
  scorer = Scorer(config.model, params, tokenizer, args.rows)
  results: dict[str, Any] = {"run": args.workdir, "step": step}
  for name, measure in evals.items():
    items: Any = lines.get(name)
    if items is None:
      items = (
        [_text(path, config, tokenizer) for path in args.text]
        if args.text
        else _heldout(workdir, config, tokenizer)
      )
    results[name] = measure(scorer, items)
  if args.lm_eval:
    from .harness import run_tasks
    from .infer.lm_eval_model import AblaxLM

    model = AblaxLM(config.model, params, tokenizer, args.rows)
    results["lm_eval"] = run_tasks(model, args.lm_eval.split(","))
  if "perplexity" in results:
    from .infer.evals.perplexity import plot

    figure = out.with_suffix(".png") if out else workdir / "perplexity.png"
    plot(results["perplexity"], f"{args.workdir}, step {step}", figure)
    if not args.json:
      print(f"the figure is {figure}", file=sys.stderr)
  text = json.dumps(finite(results), indent=2, ensure_ascii=False)
  if out:
    out.write_text(text + "\n", encoding="utf-8")
  if args.json:
    print(text)
  else:
    _show(results, evals)
  return 0


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
