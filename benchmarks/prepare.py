"""Preparation by stages, beside `datasets` and `tokenizers` doing the same.

  python benchmarks/prepare.py [--mb=12] [--rounds=3] [--workers=2]

Both read one JSON Lines file, drop exact duplicates, encode with one byte-level
BPE and pack rows of 256. Ours hashes what it reads, keeps a resumable result of
each batch and packs whole documents best-fit; theirs caches each step as Arrow
and cuts one stream of tokens. In alternation, each time with an empty cache.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import statistics
import tempfile
import time

import datasets
import numpy as np
import psutil
import tokenizers

from ablax.data.config import DataConfig
from ablax.data.corpus import Corpus
from ablax.data.prepare import pack_corpus, trained_tokenizer
from ablax.data.sources.stdlib import Stdlib
from ablax.data.sources.text import Options
from ablax.registry import Opts

T = 256


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


class Clock(dict):
  """Seconds of each stage."""

  def __call__(self, stage):
    now = time.perf_counter()
    self[stage] = now - self.started
    self.started = now

  def start(self):
    self.started = time.perf_counter()
    return self


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
  clock = Clock().start()
  Corpus(config_of(file, ()))
  clock("read")
  config = config_of(file, ("exact",))
  corpus = Corpus(config, workers=workers)
  clock("dedup")
  clock["dedup"] -= clock["read"]  # it has read once more
  tokenizer = trained_tokenizer(config, corpus)
  clock.start()
  prepared = pack_corpus(config, corpus, workers)
  clock("encode and pack")
  return clock, prepared.total("train_tokens"), tokenizer


def theirs(file, workers, tokenizer, folder):
  library = tokenizers.Tokenizer.from_file(str(tokenizer))
  clock = Clock().start()
  data = datasets.load_dataset(
    "json", data_files=str(file), split="train", cache_dir=str(folder)
  )
  clock("read")
  seen = set()

  def is_new(row):
    sha256 = hashlib.sha256(row["text"].encode()).digest()
    return not (sha256 in seen or seen.add(sha256))

  data = data.filter(is_new)  # one process: they share no set
  clock("dedup")

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
  datasets.disable_progress_bars()
  results = {"ours": [], "theirs": []}
  for _ in range(given.rounds):
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      os.environ["ABLAX_CACHE"] = str(folder / "cache")
      file = folder / "text.jsonl"
      megabytes = write(file, given.mb)
      clock, n_ours, tokenizer = ours(file, given.workers)
      results["ours"].append(clock)
      tokenizer.save(folder / "tokenizer")
      clock, n_theirs = theirs(
        file,
        given.workers,
        folder / "tokenizer" / "tokenizer.json",
        folder / "theirs",
      )
      results["theirs"].append(clock)
  print(f"{megabytes:.1f} MB; tokens: ours {n_ours:,}, theirs {n_theirs:,}\n")
  print(f"{'MB/s':<18}{'ours':>8}{'theirs':>8}{'ours / theirs':>15}")
  table = {}
  for stage in results["ours"][0]:
    a, b = (
      megabytes / statistics.median(clock[stage] for clock in results[side])
      for side in ("ours", "theirs")
    )
    table[stage] = {"ours": round(a, 1), "theirs": round(b, 1)}
    print(f"{stage:<18}{a:>8.1f}{b:>8.1f}{a / b:>15.2f}")
  if given.json:
    result = {
      "benchmark": "prepare",
      "megabytes": round(megabytes, 1),
      "mb_per_s": table,
      "workers": given.workers,
      "rounds": given.rounds,
      "versions": f"datasets {datasets.__version__},"
      f" tokenizers {tokenizers.__version__}",
      "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
      "date": datetime.date.today().isoformat(),
    }
    with open(given.json, "a", encoding="utf-8") as stream:
      stream.write(json.dumps(result) + "\n")


if __name__ == "__main__":
  main()
