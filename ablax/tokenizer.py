"""`ablax tokenizer`: train tokenizers on your text and measure them.

  ablax tokenizer --source stdlib --kind bpe,unigram,bytes --vocab-size 4096

Bytes per token are of held-out documents, which no tokenizer was trained on;
"held-out" and "hard texts" say whether those come back as they were.
"""

import argparse
import codecs
import dataclasses
import glob
import json
import os
import pathlib
import re
import sys
import time
from typing import Any

from .__main__ import guarded
from .data.config import DataConfig, source_word
from .data.corpus import Corpus
from .data.prepare import fixed_tokenizer, tokenizer_folder, trained_tokenizer
from .data.progress import Progress
from .data.sources import SOURCES
from .data.sources.text import Options as TextOptions
from .data.tokenizers import TOKENIZERS
from .data.tokenizers.hugging_face import VOCABULARY
from .data.tokenizers.measure import measure
from .data.tokenizers.report import Row, report
from .errors import UserError, nearest
from .registry import Opts

_EXAMPLES = """\
examples:
  ablax tokenizer --kind=bpe,unigram,byte_bpe,bytes --vocab-size=4096
  ablax tokenizer --source notes/*.md --documents=paragraph --out=tokenizer
  ablax tokenizer --file=Qwen3-0.6B/tokenizer.json --file=llama.model --json
"""

_IMPORTS = ("tokenizer_json", "sentencepiece")
# What is said of a config's key is said of the flag that sets it here.
_FLAGS = {
  r"data\.source\b": "--source",
  r"data\.opts\.text\.paths\b": "--source",
  r"data\.opts\.text\.documents\b": "--documents",
  r"data\.vocab_size\b": "--vocab-size",
  r"data\.tokenizer_bytes\b": "--tokenizer-bytes",
  r"data\.heldout_bytes\b": "--heldout-bytes",
  r"(data\.opts\.\w+\.)?\bspecial_tokens\b": "--special-token",
  r"data\.opts\.(tokenizer_json|sentencepiece)\.path\b": "--file",
}


def main(argv: list[str]) -> int:
  try:
    return _main(_parser().parse_args(argv))
  except UserError as error:
    raise _of_flags(error) from error


def _of_flags(error: UserError) -> UserError:
  text = str(error)
  for key, flag in _FLAGS.items():
    text = re.sub(key, flag, text)
  return UserError(text)


def _main(args: argparse.Namespace) -> int:
  kinds = [] if args.file and args.kind is None else _kinds(args.kind)
  configs = [(kind, _config(args, kind)) for kind in kinds]
  for file in args.file:
    # The folder tells one tokenizer.json from another.
    name = "-".join(file.absolute().parts[-2:])
    configs.append((name, _config(args, _kind_of(file), path=str(file))))
  rows, failed = [], []
  with Progress(sys.stderr.isatty() and not args.json) as track:
    fixed = [fixed_tokenizer(config) for _, config in configs]
    corpus = Corpus(configs[0][1], track)
    for (name, config), tokenizer in zip(configs, fixed, strict=True):
      seconds = None
      if tokenizer is None:
        was_there = tokenizer_folder(config, corpus).is_dir()
        start = time.perf_counter()
        try:
          tokenizer = trained_tokenizer(config, corpus)
        except UserError as error:  # the others may have taken minutes
          failed.append(f"{name}: {error}")
          continue
        if not was_there:
          seconds = time.perf_counter() - start
      texts = (text.text for text in corpus.heldout("measuring"))
      rows.append(
        Row(
          name,
          tokenizer.vocab_size,
          dict(tokenizer.special_tokens),
          tokenizer.fingerprint,
          seconds,
          tokenizer.loses,
          measure(tokenizer, texts),
        )
      )
      if args.out:
        tokenizer.save(args.out / name if len(configs) > 1 else args.out)
  if args.json and rows:
    print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
  elif rows:
    report(rows, corpus.heldout_bytes, corpus.train_bytes)
    if args.out:
      print(f"saved in {args.out}")
  if failed:
    raise UserError("; ".join(failed))
  return 0


def _kinds(given: str | None) -> list[str]:
  kinds = [kind for kind in (given or "").split(",") if kind]
  if given is None:
    kinds = ["bpe"]
  if not kinds:
    raise UserError(f"--kind is empty; there is: {', '.join(TOKENIZERS)}")
  for kind in kinds:
    TOKENIZERS.options(kind)  # an unknown one is refused before any work
    if kind in _IMPORTS:
      raise UserError(f"--kind={kind} is read from a file; use --file=PATH")
  return kinds


def _kind_of(file: pathlib.Path) -> str:
  """Returns which import reads a file or a folder."""
  if file.is_dir():
    is_json = (file / VOCABULARY).is_file()
  elif file.is_file():
    with file.open("rb") as stream:
      start = stream.read(256).removeprefix(codecs.BOM_UTF8)
      is_json = start.lstrip().startswith(b"{")
  else:
    raise UserError(f"--file={file} is neither a file nor a folder")
  return _IMPORTS[0] if is_json else _IMPORTS[1]


def _config(args: argparse.Namespace, kind: str, **options: Any) -> DataConfig:
  special_tokens = tuple(args.special_token)
  opts = {
    kind: TOKENIZERS.options(kind)(special_tokens=special_tokens, **options)
  }
  names = [name for name in args.source if source_word(name) in SOURCES]
  paths = tuple(name for name in args.source if name not in names)
  for path in paths:
    if not (os.path.exists(os.path.expanduser(path)) or glob.has_magic(path)):
      raise UserError(
        f"--source={path} is neither a file here nor a source"
        f"{nearest(source_word(path), SOURCES)}"
      )
  if paths:
    names.append("text")
  if any(source_word(name) == "text" for name in names):
    opts["text"] = TextOptions(paths, args.documents or "file")
  elif args.documents:
    raise UserError(
      f"--documents={args.documents} is of text files, and --source names"
      f" {', '.join(names)}; leave it out"
    )
  return DataConfig(
    mixture=tuple((name, 1.0, 0.0) for name in names),
    balance="shares",
    temperature=1.0,
    clean=(),
    tokenizer=kind,
    vocab_size=args.vocab_size,
    tokenizer_bytes=args.tokenizer_bytes,
    max_bytes=0,
    heldout_bytes=args.heldout_bytes,
    seq_len=1,
    batch_size=1,
    seed=0,
    prefetch=0,
    opts=Opts(opts),
  )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="ablax tokenizer",
    description="Train tokenizers on your text and measure them.",
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--source",
    nargs="+",
    default=["stdlib"],
    metavar="SOURCE",
    help="sources, as in stdlib tfds:three_kingdoms, or files, folders and"
    " globs of text (default: stdlib)",
  )
  parser.add_argument(
    "--documents",
    help="what one document is in text files: file, line or paragraph"
    " (default: file)",
  )
  trained = ",".join(kind for kind in TOKENIZERS if kind not in _IMPORTS)
  parser.add_argument(
    "--kind",
    help=f"one or several of {trained} (default: bpe; with --file: none)",
  )
  parser.add_argument(
    "--file",
    type=pathlib.Path,
    action="append",
    default=[],
    help="a tokenizer.json, a SentencePiece .model, or the folder of one; may"
    " be given several times",
  )
  parser.add_argument(
    "--special-token",
    action="append",
    default=[],
    metavar="NAME",
    help='a control token to append, such as "<|im_start|>"; may be given'
    " several times",
  )
  parser.add_argument("--vocab-size", type=int, default=4096)
  parser.add_argument(
    "--tokenizer-bytes",
    type=int,
    default=4_000_000,
    help="of text to train on (default: 4000000)",
  )
  parser.add_argument(
    "--heldout-bytes",
    type=int,
    default=200_000,
    help="of whole documents to measure on (default: 200000)",
  )
  parser.add_argument("--out", type=pathlib.Path, help="folder to save into")
  parser.add_argument("--json", action="store_true", help="for machines")
  return parser


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
