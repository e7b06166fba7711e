"""What preparation has made of the sources: counted, with samples."""

import dataclasses
import hashlib
import json
import pathlib
from collections import Counter
from typing import Any

from .cache import root
from .clean import chosen
from .config import DataConfig
from .corpus import Corpus
from .prepare import Prepared


def report(
  config: DataConfig, corpus: Corpus, prepared: Prepared, n_rows: int
) -> dict[str, Any]:
  """Returns plain values, for a table and for the file `report_file`.

  Args:
    n_rows: that a training sees, to say how often it sees each source.

  Returns:
    clean: name and options of each cleaning step.
    rows: n_rows.
    sources: for each, its name, what was read and what is dropped, kept and
      packed of it, its share of the rows and its epochs.
    dropped: reason -> documents and bytes.
    notes: what the steps noted, such as a language -> documents, bytes, and of
      these how many are kept.
    samples: reason -> the first few documents that it drops.
    facts: step -> what it says of itself.
  """
  dropped: Counter[tuple[str, str]] = Counter()
  noted: Counter[tuple[str, str]] = Counter()
  lost = [Counter() for _ in corpus.parts]
  for part, size, reason, note in corpus.decisions():
    if reason:
      dropped[reason, "documents"] += 1
      dropped[reason, "bytes"] += size
      lost[part]["documents"] += 1
      lost[part]["bytes"] += size
    if note:
      noted[note, "documents"] += 1
      noted[note, "bytes"] += size
      noted[note, "kept"] += not reason
  sources = [
    {
      "name": packed.name,
      "documents": corpus.read_sides[i].documents,
      "bytes": corpus.read_sides[i].bytes,
      "dropped_documents": lost[i]["documents"],
      "dropped_bytes": lost[i]["bytes"],
      "train_bytes": packed.train_bytes,
      "heldout_bytes": packed.heldout_bytes,
      "train_tokens": packed.train_tokens,
      "train_rows": packed.n_train_rows,
      "bytes_per_token": packed.train_bytes
      / (packed.train_tokens - packed.train_documents),
      "fill": packed.train_tokens / (packed.n_train_rows * config.seq_len),
      "share": packed.share,
      "epochs": n_rows * packed.share / packed.n_train_rows,
    }
    for i, packed in enumerate(prepared.parts)
  ]
  return {
    "fingerprint": prepared.fingerprint,
    "tokenizer": config.tokenizer,
    "vocab_size": prepared.tokenizer.vocab_size,
    "seq_len": config.seq_len,
    "clean": [
      [name, dataclasses.asdict(options)]
      for name, options in chosen(config).items()
    ],
    "rows": n_rows,
    "sources": sources,
    "dropped": _nested(dropped),
    "notes": _nested(noted),
    "samples": corpus.samples(),
    "facts": corpus.facts,
  }


def report_file(found: dict[str, Any]) -> pathlib.Path:
  """Returns where the cache keeps a report; other questions, other files."""
  asked = json.dumps([found["clean"], found["rows"]])
  name = hashlib.sha256(asked.encode()).hexdigest()[:8]
  return root() / "reports" / f"{found['fingerprint']}-{name}.json"


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
  """Returns the counts by name, those with the most documents first."""
  nested: dict[str, dict[str, int]] = {}
  for (name, what), n in counts.items():
    nested.setdefault(name, {})[what] = n
  order = sorted(nested, key=lambda name: (-nested[name]["documents"], name))
  return {name: nested[name] for name in order}
