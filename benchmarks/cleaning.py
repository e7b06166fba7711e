"""How fast one process cleans text, step by step, beside datasketch.

  python benchmarks/cleaning.py --mb=10

Cleans Python's own library, or the files that are named; the median of several
rounds, in seconds of the CPU, so that a busy machine says the same. What a step
reads before its first text is read before the clock starts.
The classifier is trained on the first texts against the last; datasketch gets
the shingles that `minhash` has made, so that only the minima are compared.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from results import append

try:
  import ablax  # noqa: F401
except ModuleNotFoundError:  # from a checkout with nothing installed
  sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  )

from ablax.data.cleaning import CLEANERS
from ablax.data.cleaning.minhash import MinHash, Options, shingles
from ablax.data.sources.stdlib import Stdlib
from ablax.data.sources.text import Options as TextOptions
from ablax.data.sources.text import Text


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--paths", nargs="*", help="text to clean instead")
  parser.add_argument("--mb", type=float, default=10, help="of text")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--json", help="append the result to this file")
  args = parser.parse_args()

  source = Text(TextOptions(tuple(args.paths))) if args.paths else Stdlib()
  texts, size = [], 0
  for document in source.documents():
    texts.append(document.text)
    size += len(document.text.encode())
    if size >= args.mb * 1e6:
      break
  print(f"text      {len(texts)} documents, {size / 1e6:.1f} MB")

  def rate(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(args.rounds):
      start = time.process_time()
      run()
      seconds.append(time.process_time() - start)
    return size / 1e6 / statistics.median(seconds)

  rates = {}
  with tempfile.TemporaryDirectory() as folder:
    os.environ["ABLAX_CACHE"] = folder
    for name in CLEANERS:
      step = CLEANERS[name](_options(name, texts, pathlib.Path(folder)))
      run = getattr(step, "judge", None) or step.sign
      run(texts[:1])
      rates[name] = rate(lambda run=run: run(texts))
      print(f"{name:<10} {rates[name]:6.1f} MB/s")
  ours, theirs = _minima(texts, rate)
  print(
    f"minima of shingles already made: {ours:.1f} MB/s, datasketch"
    f" {theirs:.1f} MB/s"
  )
  if args.json:
    versions = ", ".join(
      f"{name} {importlib.metadata.version(name)}"
      for name in ("numpy", "datasketch", "py3langid")
    )
    result = {
      "mb_per_s": {name: round(value, 1) for name, value in rates.items()},
      "minima_mb_per_s": {"ours": round(ours, 1), "peer": round(theirs, 1)},
      "mb": round(size / 1e6, 1),
      "rounds": args.rounds,
      "versions": versions,
    }
    append(args.json, "cleaning", result)
  return 0


def _options(name: str, texts: list[str], folder: pathlib.Path) -> object:
  if name != "classifier":
    return CLEANERS.options(name)()
  paths = {}
  for key, some in (("good", texts[:40]), ("bad", texts[-40:])):
    paths[key] = (str(folder / f"{key}.jsonl"),)
    lines = [json.dumps({"text": text}) for text in some]
    pathlib.Path(*paths[key]).write_text("\n".join(lines))
  return CLEANERS.options(name)(**paths)


def _minima(
  texts: list[str], rate: Callable[[Callable[[], object]], float]
) -> tuple[float, float]:
  """Returns MB of text a second, of ours and of datasketch's fastest scheme."""
  import datasketch

  options = Options()
  made = [shingles(text, options.shingle) for text in texts]
  step = MinHash(options)

  def theirs():
    for hashes in made:
      peer = datasketch.MinHash(
        options.num_perm, hashfunc=int, scheme="affine32"
      )
      peer.update_batch(hashes & 0xFFFFFFFF)

  return rate(lambda: [step.minima(hashes) for hashes in made]), rate(theirs)


if __name__ == "__main__":
  sys.exit(main())
