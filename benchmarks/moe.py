r"""A dropless mixture of experts beside a dense layer of equal active FLOPs.

  python benchmarks/moe.py [--experts=8:2,64:2,64:8] [--tokens=8192]
    [--peer=false] [--rounds=9] [--json=FILE]

One layer, fp32, width 512, a gated network of 1,408 in all: dense, or as k of E
experts of 1,408 / k each, with random routers. Forward, and forward and
backward, of all three in turn: ours, ours dense, and transformers' Mixtral
block, unless --peer=false. Prints medians in ms, and the ratio to the dense
layer in the same round with its spread.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

from results import append

sys.path.append(str(pathlib.Path(__file__).parents[1]))

D, F, T = 512, 1408, 256


def ours(ffn, shape, n_experts=0, top_k=0):
  """Forward, and gradient of weights and input, as functions of nothing."""
  import jax
  import jax.numpy as jnp

  from ablax.models.context import Context
  from ablax.models.ffn import FFNS
  from ablax.models.param import init_params, specs
  from ablax.train.config import load

  values = {"model.d_model": D, "model.ff_dim": F, "model.ffn": ffn}
  if n_experts:
    options = {"n_experts": n_experts, "top_k": top_k, "expert_dim": F // top_k}
    values |= {f"model.opts.moe.{key}": v for key, v in options.items()}
  config = load("configs/lm/tiny.py", values).model
  module = FFNS[ffn](config)
  ctx = Context(jnp.broadcast_to(jnp.arange(T), shape))
  x_BTD = jax.random.normal(jax.random.key(1), (*shape, D))
  params = init_params(specs(module, x_BTD, ctx), jax.random.key(0))

  def forward(params, x_BTD):
    return module.apply({"params": params}, x_BTD, ctx)

  def loss(params, x_BTD):
    return jnp.square(forward(params, x_BTD)).sum()

  run, gradient = jax.jit(forward), jax.jit(jax.grad(loss, (0, 1)))
  return (
    lambda: jax.block_until_ready(run(params, x_BTD)),
    lambda: jax.block_until_ready(gradient(params, x_BTD)),
  )


def mixtral(shape, n_experts, top_k):
  """The same of transformers."""
  import torch
  from transformers import MixtralConfig
  from transformers.models.mixtral import modeling_mixtral

  torch.manual_seed(0)
  torch.set_num_threads(os.cpu_count() or 1)
  config = MixtralConfig(
    hidden_size=D,
    intermediate_size=F // top_k,
    num_local_experts=n_experts,
    num_experts_per_tok=top_k,
  )
  block = modeling_mixtral.MixtralSparseMoeBlock(config)
  for parameter in block.parameters():
    torch.nn.init.normal_(parameter, std=0.02)
  x = torch.randn(*shape, D, requires_grad=True)

  def forward():
    with torch.no_grad():
      block(x)

  def gradient():
    out = block(x)
    out = out[0] if isinstance(out, tuple) else out
    out.square().sum().backward()

  return forward, gradient


def measure(shape, n_experts, top_k, rounds, peer):
  """Both times of each, in turn."""
  sides = {
    "dense": ours("glu", shape),
    "ablax": ours("moe", shape, n_experts, top_k),
  }
  if peer:
    sides["transformers"] = mixtral(shape, n_experts, top_k)
  found = []
  for part, what in enumerate(("forward", "forward and backward")):
    seconds = {name: [] for name in sides}
    for _ in range(2):  # compiles, and warms up
      for side in sides.values():
        side[part]()
    for _ in range(rounds):
      for name, side in sides.items():
        start = time.perf_counter()
        side[part]()
        seconds[name].append(time.perf_counter() - start)
    for name in sides:
      ratios = sorted(
        a / b for a, b in zip(seconds[name], seconds["dense"], strict=True)
      )
      found.append(
        {
          "experts": n_experts,
          "top_k": top_k,
          "what": what,
          "side": name,
          "ms": round(1e3 * statistics.median(seconds[name]), 2),
          "to_dense": round(statistics.median(ratios), 3),
          "lowest": round(ratios[0], 3),
          "highest": round(ratios[-1], 3),
        }
      )
  return found


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--experts", default="8:2,64:2,64:8", help="E:k, ...")
  parser.add_argument("--tokens", type=int, default=8192)
  parser.add_argument("--peer", default="true", choices=("true", "false"))
  parser.add_argument("--rounds", type=int, default=9)
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  import jax

  device = jax.devices()[0].device_kind
  print(f"fp32 on {device}, jax {jax.__version__}\n")
  print(f"{'':<44}{'ms':>9}{'to dense':>22}")
  results = []
  for word in given.experts.split(","):
    n_experts, top_k = map(int, word.split(":"))
    shape, peer = (given.tokens // T, T), given.peer == "true"
    for row in measure(shape, n_experts, top_k, given.rounds, peer):
      where = f"{top_k} of {n_experts}, {row['what']}: {row['side']}"
      spread = (
        f"{row['to_dense']:.2f} ({row['lowest']:.2f}-{row['highest']:.2f})"
      )
      print(f"{where:<44}{row['ms']:>9.1f}{spread:>22}", flush=True)
      results.append(row)
  if given.json:
    result = {
      "tokens": given.tokens,
      "rounds": given.rounds,
      "device": device,
      "jax": jax.__version__,
      "results": results,
    }
    append(given.json, "moe", result)


if __name__ == "__main__":
  main()
