r"""What a decode state holds, and what a token costs, as the context grows.

  python benchmarks/decode_state.py [--contexts=512,2048,8192,32768]
    [--rounds=15] [--json=FILE] [--docs=FOLDER]

One row, fp32, four layers of width 512 with 8 heads of 64: attention with 8, 2
and 1 key heads (MHA, GQA, MQA), latent attention of rank 128 (MLA), and, with
2 key heads, a window of 1,024 and StreamingLLM of 4 + 1,024. The state is as
after a text of that length; each round computes one token more of every kind at
every length, in turn. Prints bytes and the median time of a token; --docs
writes them as decode_state.md, with a figure.
"""

import argparse
import pathlib
import statistics
import sys
import time

from pages import curves, facts, grid
from results import append

sys.path.append(str(pathlib.Path(__file__).parents[1]))

WINDOW = 1024
KINDS = {
  "MHA": {"model.n_kv_heads": 8},
  "GQA, 2 heads": {"model.n_kv_heads": 2},
  "MQA": {"model.n_kv_heads": 1},
  "MLA": {
    "model.mixer": "mla",
    "model.opts.mla.kv_rank": 128,
    "model.opts.mla.rope_dim": 32,
  },
  "window": {
    "model.mixer": "sliding_window",
    "model.n_kv_heads": 2,
    "model.opts.sliding_window.window": WINDOW,
  },
  "streaming": {
    "model.mixer": "streaming",
    "model.n_kv_heads": 2,
    "model.opts.streaming.window": WINDOW,
    "model.opts.streaming.first": 4,
  },
}


def token(kind, context):
  """(bytes of the state, a function that computes one token at its end)."""
  import jax
  import jax.numpy as jnp

  from ablax.models import lm
  from ablax.models.state import init_state, state_bytes
  from ablax.train.config import load

  shape = {"d_model": 512, "n_layers": 4, "n_heads": 8, "ff_dim": 1408}
  values = {f"model.{key}": value for key, value in shape.items()}
  values |= {"model.vocab_size": 1024, "model.max_len": context}
  values |= {"data.seq_len": 64}
  config = load("configs/lm/tiny.py", values | KINDS[kind]).model
  params = lm.init(config, jax.random.key(0))
  state = init_state(config, 1, context)

  def filled(path, leaf):
    """As after `context` - 1 tokens of one document."""
    name = path[-1].key
    if name == "segments":
      return jnp.ones_like(leaf)
    if name == "next":
      return jnp.full_like(leaf, context - 1)
    if name == "positions":
      n = leaf.shape[-1]
      last = jnp.arange(n) + max(0, context - 1 - n)
      return jnp.broadcast_to(last, leaf.shape)
    return jax.random.normal(jax.random.key(1), leaf.shape, leaf.dtype)

  state = jax.tree_util.tree_map_with_path(filled, state)
  at = jnp.full((1, 1), context - 1)

  def step(params, state):
    output = lm.apply(
      config, params, jnp.ones((1, 1), jnp.int32), at, None, state
    )
    # The same place again: how full the state is stays as it was.
    return output.logits(), jax.tree_util.tree_map_with_path(
      lambda path, new, old: old if path[-1].key == "next" else new,
      output.state,
      state,
    )

  run = jax.jit(step, donate_argnums=1)
  held = [state]

  def compute():
    logits, held[0] = jax.block_until_ready(run(params, held[0]))
    return logits

  return state_bytes(config, 1, context), compute


def table(results):
  """The page, with a row for each kind and columns for each context."""
  contexts = sorted({row["context"] for row in results})
  columns = {n: f"{n:,} tokens" for n in contexts}
  parts = [
    "# What a decode state holds, and what a token costs",
    (
      "Made by `python benchmarks/decode_state.py --docs=docs` on"
      f" {facts()}; the script says what was measured."
    ),
    "![bytes and time by context](decode_state.png)",
  ]
  for key, title, form in (
    ("bytes", "Bytes of the state (MB)", lambda n: f"{n / 1e6:.2f}"),
    ("ms", "Time of a token (ms)", lambda ms: f"{ms:.1f}"),
  ):
    found = {kind: {} for kind in KINDS}
    for row in results:
      found[row["kind"]][row["context"]] = form(row[key])
    parts.append(grid(title, columns, found))
  return "\n\n".join(parts) + "\n"


def draw(results):
  """Bytes and time against the context, a line for each kind; a PNG."""
  panels = []
  for key, label in (
    ("bytes", "decode state (bytes)"),
    ("ms", "time of a token (ms)"),
  ):
    series = {kind: {} for kind in KINDS}
    for row in results:
      series[row["kind"]][row["context"]] = row[key]
    panels.append((label, series))
  return curves(panels, "context (tokens)")


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--contexts", default="512,2048,8192,32768")
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--json", help="append the result to this file")
  parser.add_argument("--docs", help="write decode_state.md and .png there")
  given = parser.parse_args()
  import jax

  device = jax.devices()[0].device_kind
  print(f"fp32 on {device}, jax {jax.__version__}\n")
  print(f"{'':<16}{'context':>10}{'state':>14}{'ms a token':>12}")
  contexts = [int(n) for n in given.contexts.split(",")]
  sides = {(k, n): token(k, n) for k in KINDS for n in contexts}
  seconds = {side: [] for side in sides}
  for _, compute in sides.values():
    for _ in range(2):  # compiles, and warms up
      compute()
  for _ in range(given.rounds):
    for side, (_, compute) in sides.items():
      start = time.perf_counter()
      compute()
      seconds[side].append(time.perf_counter() - start)
  results = []
  for (kind, context), (n_bytes, _) in sides.items():
    ms = 1e3 * statistics.median(seconds[kind, context])
    print(f"{kind:<16}{context:>10,}{n_bytes / 1e6:>11.2f} MB{ms:>12.2f}")
    results.append(
      {"kind": kind, "context": context, "bytes": n_bytes, "ms": round(ms, 3)}
    )
  if given.docs:
    page = pathlib.Path(given.docs, "decode_state")
    page.with_suffix(".md").write_text(table(results))
    page.with_suffix(".png").write_bytes(draw(results))
  if given.json:
    said = {"rounds": given.rounds, "device": device, "jax": jax.__version__}
    append(given.json, "decode_state", {**said, "results": results})


if __name__ == "__main__":
  main()
