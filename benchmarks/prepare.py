"""Preparation by stages, beside `datasets` and `tokenizers` doing the same.

  python benchmarks/prepare.py [--mb=12] [--rounds=3] [--workers=2]

Both read one JSON Lines file, clean by the rules of Gopher (the same function)
and drop exact duplicates, encode with one byte-level BPE and pack rows of 256.
Ours hashes what it reads, keeps a resumable result of each batch, packs whole
documents best-fit and compresses the held-out ones; theirs caches each step as
Arrow and cuts one stream of tokens. In alternation, each time with an empty
cache; the CPU's time is that of all processes. Each step alone is in
benchmarks/cleaning.py.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np
import psutil
from results import append

from ablax.data.cleaning import CLEANERS
from ablax.data.config import DataConfig
from ablax.data.corpus import Corpus
from ablax.data.prepare import pack_corpus, trained_tokenizer
from ablax.data.sources.stdlib import Stdlib
from ablax.data.sources.text import Options
from ablax.data.work import Workers
from ablax.registry import Opts

T = 256
STEPS = ("gopher", "exact")


def write(file, megabytes):
  """The standard library, some files twice, up to a size; returns its MB."""
  size = 0
  with file.open("w", encoding="utf-8") as stream:
    number = 0
    while True:
      for document in Stdlib().documents():
        text = document.text if number % 7 else f"# {number}\n{document.text}"
        stream.write(json.dumps({"text": text}) + "\n")
        size += len(text.encode())
        number += 1
        if size >= megabytes * 1e6:
          return size / 1e6


class Clock:
  """Seconds of each stage, by the wall and of all processes' CPU time."""

  def __init__(self):
    self.wall, self.cpu = {}, {}
    self.restart()

  def restart(self):
    self._wall, self._cpu = time.perf_counter(), cpu_seconds()

  def __call__(self, stage):
    self.wall[stage] = time.perf_counter() - self._wall
    self.cpu[stage] = cpu_seconds() - self._cpu
    self.restart()


def cpu_seconds():
  """Of this process, of those it has started, and of those that have ended."""
  here = psutil.Process()
  total = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
  for process in (here, *here.children(recursive=True)):
    with contextlib.suppress(psutil.NoSuchProcess):
      total += sum(process.cpu_times()[:2])
  return total


def config_of(file, clean):
  return DataConfig(
    mixture=(("text", 1.0, 0.0),),
    balance="shares",
    temperature=1.0,
    clean=clean,
    tokenizer="byte_bpe",
    vocab_size=4096,
    tokenizer_bytes=2_000_000,
    max_bytes=0,
    heldout_bytes=200_000,
    seq_len=T,
    batch_size=1,
    seed=0,
    prefetch=0,
    opts=Opts({"text": Options((str(file),))}),
  )


def ours(file, workers):
  clock = Clock()
  config = config_of(file, STEPS)

  def track(what, texts, total):
    del total
    yield from texts
    if what.startswith("reading"):
      clock("read")

  with Workers(workers) as team:
    corpus = Corpus(config, track, team)
    clock("clean")
    tokenizer = trained_tokenizer(config, corpus)  # theirs is this one
    clock.restart()
    prepared = pack_corpus(config, corpus, team)
    clock("encode and pack")
  return clock, prepared.total("train_tokens"), tokenizer


def theirs(file, workers, tokenizer, folder):
  # Not at the top: our workers import this file, and theirs are forked.
  import datasets
  import tokenizers

  datasets.disable_progress_bars()
  library = tokenizers.Tokenizer.from_file(str(tokenizer))
  gopher = CLEANERS["gopher"](CLEANERS.options("gopher")())
  clock = Clock()
  data = datasets.load_dataset(
    "json", data_files=str(file), split="train", cache_dir=str(folder)
  )
  clock("read")
  seen = set()

  def is_good(rows):
    return [not verdict.reason for verdict in gopher.judge(rows["text"])]

  def is_new(row):
    sha256 = hashlib.sha256(row["text"].encode()).digest()
    return not (sha256 in seen or seen.add(sha256))

  data = data.filter(is_good, batched=True, num_proc=workers)
  data = data.filter(is_new)  # one process: they share no set
  clock("clean")

  def encode(rows):
    found = library.encode_batch_fast(rows["text"], add_special_tokens=False)
    return {"ids": [[1, *one.ids, 2] for one in found]}

  def pack(rows):
    ids = np.concatenate([np.asarray(one, np.int32) for one in rows["ids"]])
    n = len(ids) // T
    return {"ids": ids[: n * T].reshape(n, T)}

  columns = {"batched": True, "num_proc": workers}
  data = data.map(encode, remove_columns=["text"], **columns)
  data = data.map(pack, **columns)
  clock("encode and pack")
  return clock, len(data) * T


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--mb", type=float, default=12)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  clocks = {"ours": [], "theirs": []}
  # The first round only warms: both import, and import again in workers.
  for number in range(1 + given.rounds):
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      os.environ["ABLAX_CACHE"] = str(folder / "cache")
      file = folder / "text.jsonl"
      megabytes = write(file, given.mb if number else min(5, given.mb))
      mine, n_ours, tokenizer = ours(file, given.workers)
      tokenizer.save(folder / "tokenizer")
      other, n_theirs = theirs(
        file,
        given.workers,
        folder / "tokenizer" / "tokenizer.json",
        folder / "theirs",
      )
      if number:
        clocks["ours"].append(mine)
        clocks["theirs"].append(other)
  print(
    f"{megabytes:.1f} MB; tokens: ours {n_ours:,} and the held-out, theirs"
    f" {n_theirs:,}\n"
  )
  print(f"{'MB/s':<24}{'ours':>8}{'theirs':>8}{'ours / theirs':>15}")
  table = {}
  for time_ in ("wall", "cpu"):
    for stage in mine.wall:
      a, b = (
        megabytes
        / statistics.median(getattr(clock, time_)[stage] for clock in of_side)
        for of_side in clocks.values()
      )
      table[f"{stage}, {time_}"] = {"ours": round(a, 1), "theirs": round(b, 1)}
      print(f"{stage + ', ' + time_:<24}{a:>8.1f}{b:>8.1f}{a / b:>15.2f}")
  if given.json:
    result = {
      "megabytes": round(megabytes, 1),
      "mb_per_s": table,
      "workers": given.workers,
      "rounds": given.rounds,
      "versions": ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("datasets", "tokenizers")
      ),
    }
    append(given.json, "prepare", result)


if __name__ == "__main__":
  main()
