"""Generation beside transformers' `generate`, and a filter beside a sort.

  python benchmarks/generate.py [--rounds=5] [--json=FILE]

Both have random weights of the same Llama shape, fp32, on the CPU; they run in
one process, in alternation, without the end of text, and the first round of
each, which compiles, is not counted. Ours is asked for the rows that there
are. The filter is top-p over a vocabulary of 50 257.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import torch
import transformers

from ablax.configs import base
from ablax.data.tokenizers.bytes import Bytes
from ablax.infer.filters.leading import leading
from ablax.infer.sampling import Sampling, generate
from ablax.models.lm import init
from ablax.train.config import resolve

SHAPE = {
  "model.d_model": 512,
  "model.n_layers": 8,
  "model.n_heads": 8,
  "model.n_kv_heads": 2,
  "model.ff_dim": 1376,
  "model.vocab_size": 8192,
  "model.max_len": 256,
  "data.seq_len": 1,
}
TOKENS, PROMPT = 64, "x" * 24


def medians(functions, rounds):
  """Median seconds of each, in alternation."""
  for f in functions:
    f()
  seconds = [[] for _ in functions]
  for _ in range(rounds):
    for f, some in zip(functions, seconds, strict=True):
      start = time.perf_counter()
      f()
      some.append(time.perf_counter() - start)
  return [statistics.median(some) for some in seconds]


def llama(c):
  config = transformers.LlamaConfig(
    vocab_size=c.vocab_size,
    hidden_size=c.d_model,
    intermediate_size=c.ff_dim,
    num_hidden_layers=c.n_layers,
    num_attention_heads=c.n_heads,
    num_key_value_heads=c.n_kv_heads,
    max_position_embeddings=c.max_len,
    tie_word_embeddings=c.tie_embeddings,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
  )
  return transformers.LlamaForCausalLM(config).eval()


def race(n_rows, rounds, how):
  """Tokens per second of ours and of theirs."""
  c = resolve(base.get_config(), SHAPE).model
  params, model = init(c, jax.random.key(0)), llama(c)
  tokenizer = Bytes()
  # The end is forbidden, so that all rows have all tokens.
  sampling = Sampling(max_tokens=TOKENS, logit_bias={2: -1e9}, **how)
  ids = torch.tensor([[1, *tokenizer.encode(PROMPT)]] * n_rows)
  draws = how.get("temperature") != 0
  theirs = {"do_sample": draws, "max_new_tokens": TOKENS, "top_k": 0}
  if draws:
    theirs |= how

  def ours():
    generate(c, params, tokenizer, [PROMPT] * n_rows, sampling, n_rows=n_rows)

  def other():
    model.generate(ids, min_new_tokens=TOKENS, **theirs)

  return [n_rows * TOKENS / s for s in medians((ours, other), rounds)]


def top_p_race(rounds):
  """Milliseconds of top-p by bisection and by sorting, for 8 rows."""
  logits_BV = jax.random.normal(jax.random.key(0), (8, 50257)) * 2

  @jax.jit
  def bisect(logits_BV):
    return leading(logits_BV, jax.nn.softmax(logits_BV), 0.9)

  @jax.jit
  def sort(logits_BV):
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    p_BV = jax.nn.softmax(sorted_BV)
    last_B = (jnp.cumsum(p_BV, -1) - p_BV < 0.9).sum(-1) - 1
    return logits_BV >= jnp.take_along_axis(sorted_BV, last_B[:, None], -1)

  assert (bisect(logits_BV) == sort(logits_BV)).all()
  both = [lambda f=f: f(logits_BV).block_until_ready() for f in (bisect, sort)]
  return [1e3 * s for s in medians(both, rounds)]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--json", help="append the results to this file")
  args = parser.parse_args()
  torch.set_num_threads(os.cpu_count() or 1)
  results = {"benchmark": "generate"}
  for name, how in (
    ("greedy", {"temperature": 0}),
    ("top_p", {"top_p": 0.9}),
  ):
    for n_rows in (1, 8):
      ours, theirs = race(n_rows, args.rounds, how)
      results[f"{name} {n_rows}"] = [round(ours), round(theirs)]
      print(
        f"{name:<7} {n_rows} rows: {ours:6.0f} tokens/s, transformers"
        f" {theirs:6.0f}: {ours / theirs:.2f} times"
      )
  ours, sort = top_p_race(args.rounds)
  results["top_p ms"] = [round(ours, 2), round(sort, 2)]
  print(f"top-p   8 rows: {ours:.2f} ms, by a sort {sort:.2f} ms")
  results |= {
    "rounds": args.rounds,
    "jax": jax.__version__,
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "date": datetime.date.today().isoformat(),
  }
  if args.json:
    with open(args.json, "a", encoding="utf-8") as file:
      file.write(json.dumps(results) + "\n")


if __name__ == "__main__":
  main()
