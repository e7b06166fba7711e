"""How fast documents come, beside the library that wrote them.

  python benchmarks/sources.py

Writes the standard library's modules, cut to lines of a few hundred bytes, as
TFDS ArrayRecord, Parquet and JSON Lines, and reads each with the source and
with its library's own reader; the median of several rounds, warm page cache.
CPU seconds, all threads': other work on the machine does not count.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

from results import append

try:
  import ablax  # noqa: F401
except ModuleNotFoundError:  # from a checkout with nothing installed
  sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  )

import datasets
import pyarrow
import pyarrow.parquet
import tensorflow_datasets as tfds

from ablax.data.sources import SOURCES

COLUMNS = ("text", "title", "url")  # only the first is a document


def texts(n_bytes: int, size: int) -> list[str]:
  """About n_bytes of text in documents of about `size` characters."""
  whole = "".join(d.text for d in SOURCES["stdlib"]().documents())[:n_bytes]
  return [whole[i : i + size] for i in range(0, len(whole), size)]


class Written(tfds.core.GeneratorBasedBuilder):
  """The texts as a TFDS data set."""

  VERSION = tfds.core.Version("1.0.0")
  rows: list[dict[str, str]]

  def _info(self):
    features = {name: tfds.features.Text() for name in COLUMNS}
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    yield from enumerate(self.rows)


def write(folder: pathlib.Path, documents: list[str]) -> None:
  rows = [
    {"text": text, "title": f"title {i}", "url": f"https://example.org/{i}"}
    for i, text in enumerate(documents)
  ]
  Written.rows = rows
  silent = io.StringIO()
  with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
    builder = Written(data_dir=folder / "tfds", file_format="array_record")
    builder.download_and_prepare()
  (folder / "parquet").mkdir()
  table = pyarrow.Table.from_pylist(rows)
  pyarrow.parquet.write_table(table, folder / "parquet/train.parquet")
  (folder / "jsonl").mkdir()
  with (folder / "jsonl/train.jsonl").open("w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)


def ours(source: str, **options):
  return SOURCES[source](SOURCES.options(source)(**options)).documents()


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--bytes", type=int, default=8_000_000)
  parser.add_argument("--size", type=int, default=500, help="of a document")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--json", help="append the results to this file")
  args = parser.parse_args()

  documents = texts(args.bytes, args.size)
  megabytes = sum(len(text.encode()) for text in documents) / 1e6
  datasets.disable_progress_bars()
  results = {}
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    write(folder, documents)

    def streamed(kind):
      # Named files: the library's cache then stays out of it.
      return datasets.load_dataset(
        kind.replace("jsonl", "json"),
        data_files=str(folder / kind / f"train.{kind}"),
        split="train",
        streaming=True,
        cache_dir=str(folder / "cache"),
      ).select_columns(["text"])

    def tfds_own():
      source = tfds.data_source(
        "written", split="train", data_dir=folder / "tfds"
      )
      return (record["text"].decode() for record in source)

    pairs = {
      "tfds": (
        lambda: ours("tfds", name="written", data_dir=str(folder / "tfds")),
        tfds_own,
      )
    }
    for kind in ("parquet", "jsonl"):
      pairs[f"hf {kind}"] = (
        lambda kind=kind: ours("hf", folder=str(folder / kind)),
        lambda kind=kind: (row["text"] for row in streamed(kind)),
      )
    for name, both in pairs.items():
      for side, read in zip(("ours", "peer"), both, strict=True):
        seconds = []
        for _ in range(args.rounds):
          start = time.process_time()
          n = sum(1 for _ in read())
          seconds.append(time.process_time() - start)
        assert n == len(documents), (name, side, n)
        results[name, side] = megabytes / statistics.median(seconds)

  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}"
    for name in ("tensorflow-datasets", "datasets", "pyarrow")
  )
  print(f"date      {datetime.date.today()}")
  print(
    f"machine   {platform.machine()}, {os.cpu_count()} cores,"
    f" {platform.system()} {platform.release()}"
  )
  print(f"versions  Python {platform.python_version()}, {versions}")
  print(
    f"data      {megabytes:.1f} MB in {len(documents):,} documents,"
    f" {len(COLUMNS)} columns"
  )
  for name in pairs:
    mine, peer = results[name, "ours"], results[name, "peer"]
    print(
      f"{name:<11}{mine:7.1f} MB/CPU s; its library {peer:.1f}"
      f" ({mine / peer:.1f} times)"
    )
  if args.json:
    result = {
      "mb_per_cpu_s": {
        f"{name}, {side}": round(rate, 1)
        for (name, side), rate in results.items()
      },
      "documents": len(documents),
      "rounds": args.rounds,
      "versions": versions,
    }
    append(args.json, "sources", result)
  return 0


if __name__ == "__main__":
  sys.exit(main())
