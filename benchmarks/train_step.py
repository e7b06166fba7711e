"""Our training step beside a bare Linen loop of the same shape.

  python benchmarks/train_step.py [--shape=small|large] [--rounds=8]

Both run in one process, in alternation: fp32, batch 8 by 256 tokens, AdamW.
The bare loop has none of our machinery: plain `nn.Dense` layers one after
another, `optax.adamw`, the whole logits, no packing, no mesh. Prints tokens/s
of both, the ratio of the medians, the fraction of the matmul peak measured in
the same run and the time from the start of the process to the first step.
Also compiles 4 and 32 layers, since the time must not grow with the depth.
"""

import time

import psutil

STARTED = psutil.Process().create_time()

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import datetime  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from ablax.train import config as configs  # noqa: E402
from ablax.train.accounting import accounts  # noqa: E402
from ablax.train.evaluate import to_device  # noqa: E402
from ablax.train.peak import machine_peak  # noqa: E402
from ablax.train.setup import make_setup  # noqa: E402
from ablax.train.step import batch_shardings, make_train_step  # noqa: E402

SHAPES = {
  "small": {
    "d_model": 256,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "ff_dim": 688,
    "vocab_size": 4096,
  },
  "large": {
    "d_model": 512,
    "n_layers": 8,
    "n_heads": 8,
    "n_kv_heads": 2,
    "ff_dim": 1376,
    "vocab_size": 8192,
  },
}
B, T = 8, 256


class BareBlock(nn.Module):
  """A Llama block as one would write it in an afternoon."""

  d_model: int
  n_heads: int
  n_kv_heads: int
  ff_dim: int

  @nn.compact
  def __call__(self, x):
    head = self.d_model // self.n_heads
    dense = lambda n, name: nn.Dense(n, use_bias=False, name=name)  # noqa: E731
    h = nn.RMSNorm()(x)
    q = dense(self.n_heads * head, "q")(h).reshape(B, T, self.n_heads, head)
    k = dense(self.n_kv_heads * head, "k")(h)
    v = dense(self.n_kv_heads * head, "v")(h)
    k = k.reshape(B, T, self.n_kv_heads, head)
    v = v.reshape(B, T, self.n_kv_heads, head)
    angle = jnp.arange(T)[:, None] * 1e4 ** (-jnp.arange(0, head, 2) / head)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]

    def rotate(a):
      a1, a2 = jnp.split(a, 2, axis=-1)
      return jnp.concatenate([a1 * cos - a2 * sin, a2 * cos + a1 * sin], -1)

    repeat = self.n_heads // self.n_kv_heads
    q, k = rotate(q), jnp.repeat(rotate(k), repeat, axis=2)
    v = jnp.repeat(v, repeat, axis=2)
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / head**0.5
    mask = jnp.tril(jnp.ones((T, T), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
    mixed = jnp.einsum("bnts,bsnh->btnh", weights, v).reshape(B, T, -1)
    x = x + dense(self.d_model, "o")(mixed)
    h = nn.RMSNorm()(x)
    h = nn.silu(dense(self.ff_dim, "gate")(h)) * dense(self.ff_dim, "up")(h)
    return x + dense(self.d_model, "down")(h)


class BareModel(nn.Module):
  """Embedding, blocks one after another, tied output."""

  shape: tuple

  @nn.compact
  def __call__(self, tokens):
    shape = dict(self.shape)
    layers, vocab = shape.pop("n_layers"), shape.pop("vocab_size")
    embed = nn.Embed(vocab, shape["d_model"])
    x = embed(tokens)
    for _ in range(layers):
      x = BareBlock(**shape)(x)
    return embed.attend(nn.RMSNorm()(x))


def bare(shape):
  """Returns (state, step) of the bare loop."""
  model = BareModel(tuple(shape.items()))
  params = model.init(jax.random.key(0), jnp.zeros((B, T), jnp.int32))
  optimizer = optax.adamw(1e-3, b2=0.95, weight_decay=0.1)

  def loss_fn(params, tokens, targets):
    logits = model.apply(params, tokens)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, targets
    ).mean()

  def step(state, tokens, targets):
    params, opt_state = state
    loss, grads = jax.value_and_grad(loss_fn)(params, tokens, targets)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss

  return (params, optimizer.init(params)), jax.jit(step, donate_argnums=0)


def ours(shape):
  """Returns (setup, state, step) of ablax."""
  config = configs.load("configs/lm/tiny.py", {"data.seq_len": T})
  model = dataclasses.replace(
    config.model, head_dim=shape["d_model"] // shape["n_heads"], **shape
  )
  setup = make_setup(dataclasses.replace(config, model=model))
  return setup, setup.init(), make_train_step(setup)


def batch(vocab):
  """One batch in our form: three packed documents a row."""
  rng = np.random.default_rng(0)
  segments = np.repeat([[1, 2, 3]], B, 0).repeat([100, 80, T - 180], 1)
  positions = np.concatenate([np.arange(n) for n in (100, 80, T - 180)])
  return {
    "tokens": rng.integers(0, vocab, (B, T), dtype=np.int32),
    "targets": rng.integers(0, vocab, (B, T), dtype=np.int32),
    "segment_ids": segments.astype(np.int32),
    "positions": np.tile(positions, (B, 1)).astype(np.int32),
    "weights": np.ones((B, T), np.float32),
    "example_ids": np.arange(B, dtype=np.int32),
  }


def compile_seconds(shape, layers):
  _, state, step = ours(shape | {"n_layers": layers})
  start = time.perf_counter()
  step.lower(state, batch(shape["vocab_size"])).compile()
  return time.perf_counter() - start


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--shape", choices=SHAPES, default="small")
  parser.add_argument("--rounds", type=int, default=8)
  parser.add_argument("--steps", type=int, default=3, help="per round")
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  shape = SHAPES[given.shape]

  setup, state, step = ours(shape)
  host = batch(shape["vocab_size"])
  shardings = batch_shardings(setup.layout)
  state, metrics = step(state, to_device(host, shardings))
  jax.block_until_ready(metrics)
  first_step = time.time() - STARTED
  bare_state, bare_step = bare(shape)
  params = sum(a.size for a in jax.tree.leaves(state.params))
  bare_params = sum(a.size for a in jax.tree.leaves(bare_state[0]))
  assert params == bare_params, (params, bare_params)
  tokens, targets = jnp.asarray(host["tokens"]), jnp.asarray(host["targets"])
  bare_state, loss = bare_step(bare_state, tokens, targets)
  jax.block_until_ready(loss)

  peak = machine_peak("float32")
  ours_s, bare_s = [], []
  for _ in range(given.rounds):
    for _ in range(given.steps):
      start = time.perf_counter()
      state, metrics = step(state, to_device(host, shardings))
      jax.block_until_ready(metrics)
      ours_s.append(time.perf_counter() - start)
    for _ in range(given.steps):
      start = time.perf_counter()
      bare_state, loss = bare_step(bare_state, tokens, targets)
      jax.block_until_ready(loss)
      bare_s.append(time.perf_counter() - start)
  ours_rate = B * T / statistics.median(ours_s)
  bare_rate = B * T / statistics.median(bare_s)
  flops = accounts(setup).train_flops
  result = {
    "benchmark": f"train_step {given.shape}",
    "parameters": params,
    "ours_tokens_per_s": round(ours_rate),
    "bare_tokens_per_s": round(bare_rate),
    "cost_ratio": round(bare_rate / ours_rate, 3),
    "peak_gflops": round(peak / 1e9),
    "peak_fraction": round(ours_rate * flops / peak, 3),
    "first_step_s": round(first_step, 1),
    "compile_4_layers_s": round(compile_seconds(SHAPES["small"], 4), 2),
    "compile_32_layers_s": round(compile_seconds(SHAPES["small"], 32), 2),
    "rounds": given.rounds,
    "jax": jax.__version__,
    "device": jax.devices()[0].device_kind,
    "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
    "date": datetime.date.today().isoformat(),
  }
  for name, value in result.items():
    print(f"{name:<22} {value}")
  if given.json:
    with open(given.json, "a", encoding="utf-8") as file:
      file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
  main()
