r"""Time and memory of every mixer as the row grows, and of a token in decoding.

  python benchmarks/mixers.py [--mixers=NAME,...] [--lengths=512,...,16384]
    [--contexts=1024,65536] [--peers=true] [--rounds=5] [--json=FILE]
    [--docs=FOLDER]

One layer, one row, fp32, width 256 with 4 heads, without position; options as
they are by default. At each length the mixers take turns, forward alone and
with all gradients; "memory" is what the compiled gradient needs besides its
arguments and results, in XLA's own count, and "growth" the exponent of the time
fitted to the lengths from 2,048 on. Decoding: bytes of the state that a context
of that many tokens needs, and the time of one token more. A form that goes on
for more than --most seconds is not run at greater lengths.

With --peers transformers' modules of the same sizes, as they run on a CPU, take
turns with ours at length 1,024.
"""

import argparse
import importlib
import os
import pathlib
import statistics
import sys
import time

from pages import curves, facts, grid
from results import append

sys.path.append(str(pathlib.Path(__file__).parents[1]))

D, N = 256, 4
FITTED_FROM = 2048  # tokens: shorter rows say little of the growth
DRAWN = (
  *(
    "attention",
    "sliding_window",
    "linear_attention",
    "gla",
    "mamba",
    "mamba2",
  ),
  *("gated_delta_net", "rwkv6", "mlstm", "slstm", "h3"),
)


def made(mixer, length):
  """The resolved model of one mixer, without a position."""
  from ablax.train.config import load

  values = {
    "model.d_model": D,
    "model.n_heads": N,
    "model.n_kv_heads": N,
    "model.max_len": length,
    "model.mixer": mixer,
    "data.seq_len": 64,
    "model.position": "none",
  }
  return load("configs/lm/tiny.py", values).model


def training(mixer, length):
  """Forward, gradient, and bytes that the compiled gradient needs."""
  import jax
  import jax.numpy as jnp

  from ablax.models.context import Context
  from ablax.models.once import Alone
  from ablax.models.param import init_params, specs

  module = Alone(made(mixer, length), mixer)
  x_BTD = jax.random.normal(jax.random.key(1), (1, length, D))
  ctx = Context(jnp.arange(length)[None])
  params = init_params(specs(module, x_BTD, ctx), jax.random.key(0))

  def forward(params, x_BTD):
    return module.apply({"params": params}, x_BTD, ctx)[0]

  def loss(params, x_BTD):
    return jnp.square(forward(params, x_BTD)).sum()

  run = jax.jit(forward)
  gradient = jax.jit(jax.grad(loss, (0, 1))).lower(params, x_BTD).compile()
  memory = gradient.memory_analysis().temp_size_in_bytes
  return (
    lambda: jax.block_until_ready(run(params, x_BTD)),
    lambda: jax.block_until_ready(gradient(params, x_BTD)),
    memory,
  )


def decoding(mixer, context):
  """Bytes of the state, and a function that computes a token at its end."""
  import jax
  import jax.numpy as jnp

  from ablax.models.context import Context
  from ablax.models.mixers import MIXERS
  from ablax.models.once import Alone
  from ablax.models.param import init_params, specs

  config = made(mixer, context)
  module = Alone(config, mixer)
  x_BTD = jax.random.normal(jax.random.key(1), (1, 1, D))
  ctx = Context(jnp.full((1, 1), context - 1), jnp.ones((1, 1), jnp.int32))
  params = init_params(specs(module, x_BTD, ctx), jax.random.key(0))
  state = MIXERS[mixer].init_state(config, 1, context)
  n_bytes = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(state))
  run = jax.jit(
    lambda params, x, state: module.apply({"params": params}, x, ctx, state),
    donate_argnums=2,
  )
  held = [jax.tree.map(jnp.copy, state)]

  def token():
    # Where the next token goes stays: the same place is written again.
    y, after = run(params, x_BTD, held[0])
    if "next" in after:
      after = {**after, "next": jnp.int32(context - 1)}
    held[0] = jax.block_until_ready(after)
    return y

  return n_bytes, token


def peers():
  """mixer -> transformers' module of its sizes."""
  import torch

  torch.manual_seed(0)
  torch.set_num_threads(os.cpu_count() or 1)

  def module(name):
    return importlib.import_module(
      f"transformers.models.{name}.modeling_{name}"
    ), importlib.import_module(
      f"transformers.models.{name}.configuration_{name}"
    )

  mamba, config = module("mamba")
  found = {}
  found["mamba"] = mamba.MambaMixer(
    config.MambaConfig(hidden_size=D, state_size=16, num_hidden_layers=1), 0
  )
  mamba2, config = module("mamba2")
  sizes = {"num_heads": N, "head_dim": 2 * D // N, "n_groups": 1}
  found["mamba2"] = mamba2.Mamba2Mixer(
    config.Mamba2Config(
      hidden_size=D, state_size=64, num_hidden_layers=1, **sizes
    ),
    0,
  )
  rwkv, config = module("rwkv")
  found["rwkv4"] = rwkv.RwkvSelfAttention(
    config.RwkvConfig(hidden_size=D, num_hidden_layers=1), 0
  )
  qwen, config = module("qwen3_next")
  heads = {f"linear_num_{name}_heads": N for name in ("key", "value")}
  dims = {f"linear_{name}_head_dim": D // N for name in ("key", "value")}
  found["gated_delta_net"] = qwen.Qwen3NextGatedDeltaNet(
    config.Qwen3NextConfig(hidden_size=D, num_hidden_layers=4, **heads, **dims),
    0,
  )
  xlstm, config = module("xlstm")
  found["mlstm"] = xlstm.xLSTMLayer(
    config.xLSTMConfig(
      hidden_size=D,
      num_heads=N,
      num_hidden_layers=1,
      qk_dim_factor=0.5,
      v_dim_factor=1.0,
      chunkwise_kernel="chunkwise--native_autograd",
      sequence_kernel="native_sequence__native",
      step_kernel="native",
      mode="inference",
    )
  )
  return {name: _of_torch(peer) for name, peer in found.items()}


def _of_torch(peer):
  import torch

  def output(x):
    y = peer(x)
    return y[0] if isinstance(y, tuple) else y

  def make(length):
    x = torch.randn(1, length, D, requires_grad=True)

    def forward():
      with torch.no_grad():
        output(x)

    def gradient():
      peer.zero_grad()
      output(x).square().sum().backward()

    return forward, gradient

  return make


def in_turn(sides, rounds, most):
  """Seconds of each side in each round; one that takes `most` runs once."""
  seconds = {name: [] for name in sides}
  for name, side in sides.items():
    side()  # compiles
    start = time.perf_counter()
    side()
    seconds[name].append(time.perf_counter() - start)
  for _ in range(rounds - 1):
    for name, side in sides.items():
      if seconds[name][0] < most / rounds:
        start = time.perf_counter()
        side()
        seconds[name].append(time.perf_counter() - start)
  return seconds


def exponent(times):
  """Slope of log(time) by log(length), by least squares."""
  import numpy as np

  found = [(n, t) for n, t in times.items() if n >= FITTED_FROM]
  if len(found) < 2:
    return None
  return float(np.polyfit(*np.log(np.array(found, float)).T, 1)[0])


def beside_peers(rounds, most, names):
  """Ours and transformers' in turn at 1,024; medians and their ratio."""
  found = []
  for mixer, make in peers().items():
    if mixer not in names:
      continue
    ours, theirs = training(mixer, 1024)[:2], make(1024)
    for part, what in enumerate(("forward", "forward and backward")):
      sides = {"ablax": ours[part], "transformers": theirs[part]}
      seconds = in_turn(sides, rounds, most)
      ms = {k: 1e3 * statistics.median(v) for k, v in seconds.items()}
      ratio = ms["transformers"] / ms["ablax"]
      found.append(
        {"mixer": mixer, "what": what, "ratio": round(ratio, 2)}
        | {k: round(v, 2) for k, v in ms.items()}
      )
      print(
        f"{mixer:<20}{what:<22}{ms['ablax']:>9.1f} ms"
        f"{ms['transformers']:>11.1f} ms{ratio:>8.2f} times",
        flush=True,
      )
  return found


def page(found):
  """mixers.md."""
  rows, decode = found["training"], found["decoding"]
  lengths = sorted({row["length"] for row in rows})
  parts = [
    "# Mixers: time and memory by length",
    (
      f"Made by `python benchmarks/mixers.py --docs=docs` on {facts()}; the"
      " script says what was measured."
    ),
    "![time by length](mixers.png)",
  ]
  columns = {n: f"{n:,}" for n in lengths} | {"growth": "growth"}
  for key, title in (
    ("forward", "Forward (ms)"),
    ("gradient", "Forward and backward (ms)"),
  ):
    table, times = {}, {}
    for row in rows:
      name, n = row["mixer"], row["length"]
      table.setdefault(name, {})[n] = f"{row[key]:,.1f}"
      times.setdefault(name, {})[n] = row[key]
    for name, of in times.items():
      if (slope := exponent(of)) is not None:
        table[name]["growth"] = f"{slope:.2f}"
    parts.append(grid(title, columns, table))
  table = {}
  for row in rows:
    megabytes = f"{row['memory'] / 1e6:,.0f}"
    table.setdefault(row["mixer"], {})[row["length"]] = megabytes
  parts.append(grid("Memory of the gradient (MB)", columns, table))
  columns, table = {}, {}
  for row in decode:
    n = row["context"]
    columns |= {(n, "bytes"): f"{n:,}: state (kB)", (n, "ms"): f"{n:,}: ms"}
    of = table.setdefault(row["mixer"], {})
    of[n, "bytes"] = f"{row['bytes'] / 1e3:,.1f}"
    of[n, "ms"] = f"{row['ms']:.2f}"
  parts.append(grid("Decoding: state and time of a token", columns, table))
  if found["peers"]:
    columns = {
      "ablax": "ablax (ms)",
      "transformers": "transformers (ms)",
      "ratio": "times as fast",
    }
    table = {
      f"{row['mixer']}, {row['what']}": {k: f"{row[k]:,.2f}" for k in columns}
      for row in found["peers"]
    }
    parts.append(grid("Beside transformers at 1,024 tokens", columns, table))
  return "\n\n".join(parts) + "\n"


def draw(found):
  """Time and memory of the gradient by length, of some of them; a PNG."""
  panels = []
  for key, label in (
    ("gradient", "forward and backward (ms)"),
    ("memory", "memory of the gradient (bytes)"),
  ):
    series = {}
    for row in found["training"]:
      if row["mixer"] in DRAWN:
        series.setdefault(row["mixer"], {})[row["length"]] = row[key]
    panels.append((label, series))
  return curves(panels, "tokens", width=11, height=4.6)


def main():
  from ablax.models.mixers import MIXERS

  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--mixers", default=",".join(MIXERS.own))
  parser.add_argument("--lengths", default="512,1024,2048,4096,8192,16384")
  parser.add_argument("--contexts", default="1024,65536")
  parser.add_argument("--peers", default="true", choices=("true", "false"))
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--most", type=float, default=10.0, help="seconds")
  parser.add_argument("--json", help="append the result to this file")
  parser.add_argument("--docs", help="write mixers.md and .png there")
  given = parser.parse_args()
  names = given.mixers.split(",")
  import jax

  device = jax.devices()[0].device_kind
  print(f"fp32 on {device}, jax {jax.__version__}\n")
  print(f"{'':<20}{'length':>8}{'forward':>12}{'gradient':>12}{'memory':>12}")
  found, slow = {"training": [], "decoding": [], "peers": []}, set()
  for length in map(int, given.lengths.split(",")):
    here = [name for name in names if name not in slow]
    made_ = {name: training(name, length) for name in here}
    forward = {k: v[0] for k, v in made_.items()}
    gradient = {k: v[1] for k, v in made_.items()}
    forward = in_turn(forward, given.rounds, given.most)
    gradient = in_turn(gradient, given.rounds, given.most)
    for name in here:
      row = {
        "mixer": name,
        "length": length,
        "forward": round(1e3 * statistics.median(forward[name]), 3),
        "gradient": round(1e3 * statistics.median(gradient[name]), 3),
        "memory": made_[name][2],
      }
      found["training"].append(row)
      if row["gradient"] > 1e3 * given.most:
        slow.add(name)
      print(
        f"{name:<20}{length:>8,}{row['forward']:>9.1f} ms"
        f"{row['gradient']:>9.1f} ms{row['memory'] / 1e6:>9.1f} MB",
        flush=True,
      )
  print(f"\n{'':<20}{'context':>8}{'state':>13}{'a token':>12}")
  for context in map(int, given.contexts.split(",")):
    can = [name for name in names if MIXERS[name].decodable]
    sides = {name: decoding(name, context) for name in can}
    seconds = in_turn({k: v[1] for k, v in sides.items()}, 15, given.most)
    for name in can:
      ms = 1e3 * statistics.median(seconds[name])
      row = {"mixer": name, "context": context, "bytes": sides[name][0]}
      found["decoding"].append(row | {"ms": round(ms, 3)})
      print(
        f"{name:<20}{context:>8,}{row['bytes'] / 1e3:>10.1f} kB{ms:>9.2f} ms",
        flush=True,
      )
  if given.peers == "true":
    print(f"\n{'':<42}{'ablax':>12}{'transformers':>14}")
    found["peers"] = beside_peers(given.rounds, given.most, names)
  if given.docs:
    base = pathlib.Path(given.docs, "mixers")
    base.with_suffix(".md").write_text(page(found))
    base.with_suffix(".png").write_bytes(draw(found))
  if given.json:
    said = {"rounds": given.rounds, "device": device, "jax": jax.__version__}
    append(given.json, "mixers", {**said, **found})


if __name__ == "__main__":
  main()
