# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Positions, and rows longer than those of training
#
# What an encoding does to a score by distance, and which of them still read a
# text of eight times the length. Some two minutes on a CPU.

# %%
# ablax from this checkout, if the notebook lies in one, or else from Git; the
# machine's own jax, which knows its GPU or TPU, stays as it is.
import importlib.util
import pathlib
import subprocess
import sys
from importlib import metadata

SOURCE = "git+https://github.com/ablax/ablax"  # or the path of a checkout
if importlib.util.find_spec("ablax") is None:
  here = pathlib.Path.cwd().resolve()
  checkouts = [p for p in (here, *here.parents) if (p / "ablax").is_dir()]
  installed = {d.metadata["Name"] for d in metadata.distributions()}
  keep = [
    f"{p}=={metadata.version(p)}" for p in ("jax", "jaxlib") if p in installed
  ]
  source = str(checkouts[0]) if checkouts else SOURCE
  subprocess.run(
    [sys.executable, "-m", "pip", "install", "-q", source, *keep], check=True
  )

# %% [markdown]
# ## A score by distance
# RoPE turns queries and keys, so that their product depends on how far apart
# they are. What stretches it turns them more slowly: here to eight times the
# 128 tokens of training.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ablax.models.positions import POSITIONS
from ablax.train.config import load

LENGTHS = (256, 1024)
LONG = {"model.max_len": max(LENGTHS), "data.eval_lengths": LENGTHS}
distance = jnp.arange(max(LENGTHS))
one = jnp.ones((1, len(distance), 1, 64))
for word in ("rope", "linear", "ntk", "yarn"):
  config = load("configs/lm/toy.py", {**LONG, "eval.stretch": word})
  position = POSITIONS[word](config.model_at(max(LENGTHS)))
  turned = position.apply({}, one, distance[None], method="rotate")
  plt.plot(distance, (turned @ turned[0, 0, 0])[0, :, 0], label=word)
plt.xlabel("distance (tokens)")
plt.ylabel("score of two equal vectors")
plt.legend()
plt.show()

# %% [markdown]
# ## Training at 128, scoring at 1,024
# `data.eval_lengths` packs the same held-out text into longer rows, and
# `eval.stretch` says what takes RoPE's place there. No weight changes.

# %%
from ablax.train.loop import train

ARMS = {
  "rope": {},
  "rope, yarn": {"eval.stretch": "yarn"},
  "alibi": {"model.position": "alibi"},
}
SHORT = {"steps": 80, "eval.every": 0, "log.progress": False}
found = {}
for name, changes in ARMS.items():
  config = load("configs/lm/toy.py", {**LONG, **SHORT, **changes})
  result = train(config, f"runs/positions/{name}")
  lengths = (config.data.seq_len, *LENGTHS)
  found[name] = [result.heldout[f"len={n}/bits_per_byte"] for n in lengths]

# %%
for name, values in found.items():
  plt.plot(lengths, values, "o-", label=name)
plt.xscale("log", base=2)
plt.xlabel("length of a row (tokens)")
plt.ylabel("held-out bits per byte")
plt.legend()
plt.show()
np.round(np.array(list(found.values())), 3)

# %% [markdown]
# `ablax ablate --config=configs/ablations/length_extrapolation.py` asks it of
# twelve arms, with seeds and intervals; `docs/ablations` has what came.
