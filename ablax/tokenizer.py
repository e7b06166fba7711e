"""`ablax tokenizer`: train tokenizers on your text and measure them.

  ablax tokenizer --source stdlib --kind bpe,unigram,bytes --vocab-size 4096

Bytes per token are of held-out documents, which no tokenizer was trained on;
"held-out" and "hard texts" say whether those come back as they were.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Iterable

from .__main__ import guarded
from .data.config import DataConfig
from .data.corpus import Corpus
from .data.prepare import tokenizer_folder, trained_tokenizer
from .data.progress import Progress
from .data.sources import SOURCES
from .data.sources.text import Options as TextOptions
from .data.tokenizers import TOKENIZERS, Tokenizer
from .errors import UserError
from .registry import Opts

_EXAMPLES = """\
examples:
  ablax tokenizer --kind=bpe,unigram,bytes --vocab-size=4096
  ablax tokenizer --source notes/*.md --documents=paragraph --out=tokenizer
"""

# What tokenizers are known to change: each text must come back as it was.
HARD = {
  "chinese": "滾滾長江東逝水，浪花淘盡英雄。",
  "code": "def f(x):\n    if x:\n\t\treturn  x  # 0x1F\n\n\n",
  "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
  "combining marks": "\u0301e\u0301\u0323 \u1e69 s\u0323\u0307 s\u0307\u0323",
  "line ends": "\r\na\r\n\r\nb\rc\n\x0b\x0c\x85\u2028\u2029",
  "spaces": "  two before, three after   \u00a0\u3000\u200b",
  "sentencepiece's marks": "\u2581a \u2581\u2581b\u2585\u2047 c\u2581",
  "NUL": "\0a\0\0b",
  "control look-alikes": "<s></s><unk><pad><0x0A><|endoftext|>",
  "edges of Unicode": "\ufeff\ufffd\uffff\ue000\U0010ffff",
}


def main(argv: list[str]) -> int:
  args = _parser().parse_args(argv)
  kinds = [kind for kind in args.kind.split(",") if kind]
  if not kinds:
    raise UserError(f"--kind is empty; there is: {', '.join(TOKENIZERS)}")
  for kind in kinds:
    TOKENIZERS.options(kind)  # an unknown one is refused before any work
  configs = [_config(args, kind) for kind in kinds]
  rows = []
  with Progress(sys.stderr.isatty()) as track:
    corpus = Corpus(configs[0], track)
    for config in configs:
      was_there = tokenizer_folder(config, corpus).is_dir()
      start = time.perf_counter()
      tokenizer = trained_tokenizer(config, corpus)
      seconds = time.perf_counter() - start
      rows.append(
        (
          config.tokenizer,
          str(tokenizer.vocab_size),
          "cached" if was_there else f"{seconds:.1f}",
          *_measured(
            tokenizer, (text.text for text in corpus.heldout("measuring"))
          ),
        )
      )
      if args.out:
        folder = args.out / config.tokenizer if len(kinds) > 1 else args.out
        tokenizer.save(folder)
  _print(rows, corpus)
  if args.out:
    print(f"saved in {args.out}")
  return 0


def _measured(
  tokenizer: Tokenizer, texts: Iterable[str]
) -> tuple[str, str, str, str]:
  """Returns bytes per token, two round trips and what is lost, in words."""
  n_bytes = n_tokens = n_texts = n_changed = 0
  for text in texts:
    ids = tokenizer.encode(text)
    n_bytes += len(text.encode())
    n_tokens += len(ids)
    n_texts += 1
    n_changed += tokenizer.decode(ids) != text
  changed = [
    name
    for name, text in HARD.items()
    if tokenizer.decode(tokenizer.encode(text)) != text
  ]
  return (
    f"{n_bytes / n_tokens:.3f}",
    f"changes {n_changed} of {n_texts}" if n_changed else "exact",
    f"changes {', '.join(changed)}" if changed else "exact",
    tokenizer.loses or "nothing",
  )


def _print(rows: list[tuple[str, ...]], corpus: Corpus) -> None:
  from rich.console import Console
  from rich.table import Table

  table = Table(
    title=f"on {corpus.heldout_bytes:,} held-out bytes,"
    f" {corpus.train_bytes:,} bytes for training"
  )
  table.add_column("tokenizer")
  table.add_column("vocab", justify="right")
  table.add_column("train, s", justify="right")
  table.add_column("bytes/token", justify="right")
  table.add_column("held-out")
  table.add_column("hard texts")
  table.add_column("loses")
  for row in rows:
    table.add_row(*row)
  Console().print(table)


def _config(args: argparse.Namespace, kind: str) -> DataConfig:
  opts = {}
  source = args.source[0]
  if source not in list(SOURCES) or len(args.source) > 1:
    source = "text"
    opts["text"] = TextOptions(tuple(args.source), args.documents)
  return DataConfig(
    mixture=((source, 1.0, 0.0),),
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
    help="stdlib, or files, folders and globs of text (default: stdlib)",
  )
  parser.add_argument(
    "--documents",
    default="file",
    help="what one document is in text files: file, line or paragraph",
  )
  parser.add_argument(
    "--kind",
    default="bpe",
    help=f"one or several of {','.join(TOKENIZERS)} (default: bpe)",
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
  return parser


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
