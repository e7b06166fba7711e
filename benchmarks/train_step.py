r"""Our training step beside its peers, on the same shapes, in alternation.

  python benchmarks/train_step.py [--shape=small|mid] [--rounds=8]
    [--peers=linen_loop,transformers_compiled] [--python=PEER:INTERPRETER]

fp32, batch 8 by 256 tokens, AdamW. Every peer is a process of its own that
waits while another steps; a round takes a few steps of each. Prints tokens/s
(medians), the ratio to ours and its spread over the rounds, and what is not
installed. A peer that needs other versions is run by the interpreter of its
own environment. MaxText's is one of Python 3.12, Tunix's one of 3.11:

  pip install maxtext==0.2.5 jax==0.11.2 flax==0.12.12 optax==0.2.8 \
    orbax-checkpoint==0.12.8 grain==0.2.18 tokamax==0.0.17 aqtp==0.9.0 \
    drjax==0.2.1 pathwaysutils==0.1.13 transformers==5.24.0 jinja2==3.1.6 \
    ml-collections==1.1.0 omegaconf==2.4.0 pillow==13.0.0 sympy==1.14.0 \
    sentencepiece==0.2.3 tiktoken==0.14.0
  pip install google-tunix==0.1.7 jax==0.10.2 flax==0.12.8 optax==0.2.8
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from results import append

PEERS = pathlib.Path(__file__).parent / "peers"
OURS = "ablax_step"
SHAPES = {
  "small": {
    "d_model": 256,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "ff_dim": 688,
    "vocab_size": 4096,
  },
  "mid": {
    "d_model": 512,
    "n_layers": 8,
    "n_heads": 8,
    "n_kv_heads": 2,
    "ff_dim": 1376,
    "vocab_size": 8192,
  },
}
TOKENS = 8 * 256  # of one step


class Peer:
  """A peer's process; `facts` is None where it does not run."""

  def __init__(self, name, shape, python):
    self.name = name
    self.seconds = []  # of each round, a list
    self._process = subprocess.Popen(
      [python, str(PEERS / f"{name}.py"), json.dumps(shape)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {"PYTHONPATH": str(PEERS.parents[1])},
    )
    line = self._process.stdout.readline()
    self.facts = json.loads(line) if line else None
    self.error = ""
    if not line:
      told = self._process.communicate()[1].strip().splitlines()
      self.error = told[-1] if told else "it ended without a word"

  def round(self, steps):
    self._process.stdin.write(f"{steps}\n")
    self._process.stdin.flush()
    self.seconds.append(json.loads(self._process.stdout.readline()))

  def close(self):
    if self.facts:
      self._process.communicate()

  def rate(self):
    return TOKENS / statistics.median(s for part in self.seconds for s in part)

  def ratios(self, other):
    """Our time over the other's in each round: below 1, we are faster."""
    return [
      statistics.median(a) / statistics.median(b)
      for a, b in zip(self.seconds, other.seconds, strict=True)
    ]


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  names = sorted(p.stem for p in PEERS.glob("*_*.py"))
  names.remove(OURS)
  parser.add_argument("--shape", choices=SHAPES, default="small")
  parser.add_argument("--rounds", type=int, default=8)
  parser.add_argument("--steps", type=int, default=3, help="per round")
  parser.add_argument("--peers", default=",".join(names))
  parser.add_argument("--python", action="append", default=[])
  parser.add_argument("--json", help="append the result to this file")
  given = parser.parse_args()
  shape = SHAPES[given.shape]
  pythons = dict(pair.split(":", 1) for pair in given.python)

  peers = []
  for name in [OURS, *filter(None, given.peers.split(","))]:
    peer = Peer(name, shape, pythons.get(name, sys.executable))
    if peer.facts:
      peers.append(peer)
    else:
      print(f"{name} does not run here: {peer.error}")
  ours = peers[0]
  assert ours.name == OURS
  for peer in peers[1:]:
    same = peer.facts["parameters"] == ours.facts["parameters"]
    assert same, (peer.name, peer.facts, ours.facts)
  for _ in range(given.rounds):
    for peer in peers:
      peer.round(given.steps)
  for peer in peers:
    peer.close()

  flops, peak = ours.facts["flops_per_token"], ours.facts["peak_flops"]
  results = []
  print(
    f"{given.shape}: {ours.facts['parameters']:,} parameters, matmul peak"
    f" {peak / 1e9:.0f} GFLOP/s\n"
  )
  head = "tokens/s", "of peak", "our time / theirs", "warm, s", "versions"
  print(f"{'':<24}{head[0]:>9}{head[1]:>9}{head[2]:>22}{head[3]:>9}  {head[4]}")
  for peer in peers:
    ratios = sorted(ours.ratios(peer))
    ratio = statistics.median(ratios)
    print(
      f"{peer.name:<24}{peer.rate():>9,.0f}{peer.rate() * flops / peak:>9.2f}"
      f"{f'{ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})':>22}"
      f"{peer.facts['warm_s']:>9}  {peer.facts['versions']}"
    )
    results.append(
      {
        "peer": peer.name,
        "tokens_per_s": round(peer.rate()),
        "peak_fraction": round(peer.rate() * flops / peak, 3),
        "our_time_over_theirs": round(ratio, 3),
        "lowest_ratio": round(ratios[0], 3),
        "highest_ratio": round(ratios[-1], 3),
        "versions": peer.facts["versions"],
      }
    )
  if given.json:
    result = {
      "parameters": ours.facts["parameters"],
      "peak_gflops": round(peak / 1e9),
      "rounds": given.rounds,
      "results": results,
    }
    append(given.json, f"train_step {given.shape}", result)


if __name__ == "__main__":
  main()
