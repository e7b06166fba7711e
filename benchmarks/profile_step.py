"""Where the time of our training step goes on a CPU, part by part.

  python benchmarks/profile_step.py [--shape=small|mid] [--steps=4]
    [--json=FILE]

Traces the step of benchmarks/train_step.py and gives each moment to the
operations that run in it, in equal parts; an operation belongs to the part of
the model that its name in the program says. A moment counts once, however many
cores are at work: a trace does not name what each of them does.
"""

import argparse
import collections
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator

import jax

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
import ablax_step
from results import append
from train_step import SHAPES, TOKENS

from ablax.train.evaluate import to_device
from ablax.train.step import batch_shardings, make_train_step

# The first that matches an operation's name in the program.
PARTS = (
  ("attention: scores and their use", r"/mixer/([A-Z]+,[A-Z]+->|exp|jit\()"),
  ("positions", r"position\.rotate"),
  ("attention: projections", r"/mixer/\w+/[A-Z]+,[A-Z]+->"),
  ("attention: the rest", r"/mixer"),
  ("ffn: products", r"/ffn/\w+/[A-Z]+,[A-Z]+->"),
  ("ffn: the rest", r"/ffn/"),
  ("norms", r"norm"),
  ("logits and loss", r"jvp\(\)"),
  ("loop over layers: slices", r"dynamic_(update_)?(slice|index)"),
  ("embedding", r"gather|scatter"),
)
# Frames around operations, which do nothing themselves.
_FRAMES = re.compile(r"Thunk|Threadpool|while|call$|end: |.*Await")


def part_of(operation: str, names: dict[str, str]) -> str:
  name = names.get(operation, "")
  for part, pattern in PARTS:
    if re.search(pattern, name):
      return part
  if "broadcast" in operation and "while" not in name:
    return "loop over layers: empty arrays"
  return "update and the rest"


def moments(trace: str) -> Iterator[tuple[int, list[str]]]:
  """(nanoseconds, operations that run) of all moments with an operation."""
  edges = []
  for plane in jax.profiler.ProfileData.from_file(trace).planes:
    for line in plane.lines:
      if not line.name.startswith("tf_XLA"):
        continue
      for event in line.events:
        if not _FRAMES.match(event.name):
          key = line.name, event.name
          edges.append((event.start_ns, 1, key))
          edges.append((event.start_ns + event.duration_ns, -1, key))
  running, before = collections.Counter(), 0
  for time, change, key in sorted(edges):
    now = [operation for (_, operation), n in running.items() if n]
    if now:
      yield time - before, now
    running[key] += change
    before = time


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--shape", choices=SHAPES, default="small")
  parser.add_argument("--steps", type=int, default=4)
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  shape = SHAPES[given.shape]

  setup = ablax_step.setup_of(shape)
  host = ablax_step.batch(shape["vocab_size"])
  batch = to_device(host, batch_shardings(setup.layout))
  state = setup.init()
  step = make_train_step(setup).lower(state, batch).compile()
  names = {}
  for line in step.as_text().splitlines():
    found = re.match(r'\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]+)"', line)
    if found:
      names[found[1]] = found[2]

  def run(n):
    nonlocal state
    for _ in range(n):
      state, metrics = step(state, batch)
      metrics["loss"].block_until_ready()

  run(2)
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      run(given.steps)
    (trace,) = pathlib.Path(folder).rglob("*.xplane.pb")
    spent = collections.Counter()
    for nanoseconds, operations in moments(str(trace)):
      for operation in operations:
        ms = nanoseconds / len(operations) / given.steps / 1e6
        spent[part_of(operation, names)] += ms

  total = spent.total()
  print(
    f"{given.shape}: {total:.0f} ms of operations a step, "
    f"{TOKENS / total * 1e3:,.0f} tokens/s (traced)\n"
  )
  for part, ms in spent.most_common():
    print(f"{part:<34}{ms:>8.1f} ms{ms / total:>8.1%}")
  if given.json:
    result = {
      "ms": {part: round(ms, 1) for part, ms in spent.most_common()},
      "jax": jax.__version__,
    }
    append(given.json, f"profile_step {given.shape}", result)


if __name__ == "__main__":
  main()
