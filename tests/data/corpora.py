"""Tiny corpora and configs for the tests of data/."""

import random

from ablax.data.config import DataConfig
from ablax.data.sources.text import Options
from ablax.registry import Opts

WORDS = [
  "the",
  "model",
  "reads",
  "one",
  "token",
  "and",
  "then",
  "predicts",
  "what",
  "comes",
  "next",
]


def write(folder, n=40, longest=60, seed=0):
  """Writes n text files of random words, each with its number; returns them."""
  rng = random.Random(seed)
  folder.mkdir(parents=True, exist_ok=True)
  texts = []
  for i in range(n):
    words = rng.choices(WORDS, k=rng.randrange(3, longest))
    texts.append(f"document {i} of {seed}: {' '.join(words)}\n")
    (folder / f"{i:03}.txt").write_text(texts[-1])
  return texts


def config(folder, **overrides):
  values = {
    "mixture": (("text", 1.0, 0.0),),
    "balance": "shares",
    "temperature": 1.0,
    "clean": (),
    "tokenizer": "bytes",
    "vocab_size": 300,
    "tokenizer_bytes": 4000,
    "max_bytes": 0,
    "heldout_bytes": 1000,
    "seq_len": 32,
    "batch_size": 8,
    "seed": 0,
    "prefetch": 2,
    "opts": Opts({"text": Options((str(folder),))}),
  }
  return DataConfig(**(values | overrides))
