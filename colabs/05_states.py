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
# # One sequence, and what four mixers keep of it
#
# Attention keeps every token; a recurrence a matrix for each head, whatever the
# length. Four models of two layers learn to recall values by key, and then read
# one row a token at a time: what is in their states, and when does it change?
# Some four minutes on a CPU.

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
# ## Training on recall
# A row is eight keys with their values, then the keys again, among symbols that
# mean nothing: the model must name the value of each (`data.task=mqar`). After
# 800 updates all but Mamba-2 can; `configs/ablations/recall.py` compares more,
# with seeds.

# %%
from ablax.train.config import load
from ablax.train.loop import train

MIXERS = ("attention", "mamba2", "rwkv7", "gated_delta_net")
TASK = {
  "steps": 800,
  "opt.lr": 4e-3,
  "eval.every": 0,
  "log.progress": False,
  "data.opts.mqar.symbols": 64,
  "data.opts.mqar.n_pairs": 8,
  "model.n_heads": 1,
  "model.n_kv_heads": 1,
  "model.max_len": 64,
}
results = {}
for mixer in MIXERS:
  changes = {"model.mixer": mixer, **TASK}
  config = load("configs/tasks/mqar.py", changes)
  results[mixer] = train(config, f"runs/states/{mixer}")
  print(f"{mixer:<16} recalls {results[mixer].heldout['accuracy']:.3f}")

# %% [markdown]
# ## Reading one row
# `models.state` makes a state, and a call that is given one returns the next.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ablax.data.tasks import TASKS
from ablax.models import lm
from ablax.models.state import init_state, state_bytes
from ablax.train.checkpoint import load_model

options = config.data.opts["mqar"]
row = TASKS["mqar"](options, 32).draw(np.random.default_rng(5))
asked = np.flatnonzero(row.weights)


def read(mixer):
  """Probability of each asked value, and the last layer's state by token."""
  config, params, _ = load_model(results[mixer].workdir)
  c = config.model

  @jax.jit
  def step(params, state, token, at):
    output = lm.apply(c, params, token[None, None], at[None, None], state=state)
    return output.logits()[0, 0], output.state

  state, seen, given = init_state(c, 1, len(row.tokens)), [], []
  for at, token in enumerate(row.tokens):
    logits, state = step(params, state, jnp.int32(token), jnp.int32(at))
    (layer,) = state["groups"]
    name = "k" if mixer == "attention" else "state"
    seen.append(np.asarray(layer["mixer"][name][-1, 0], np.float32))
    given.append(jax.nn.softmax(logits)[row.targets[at]])
  return np.stack(seen), np.array(given), state_bytes(c, 1, len(row.tokens))


states, probabilities, sizes = {}, {}, {}
for mixer in MIXERS:
  states[mixer], probabilities[mixer], sizes[mixer] = read(mixer)
  found = ", ".join(f"{p:.2f}" for p in probabilities[mixer][asked])
  print(f"{mixer:<16} {sizes[mixer]:>8,} bytes; of the values asked: {found}")

# %% [markdown]
# ## When a state changes
# How far each token moves it, of its size at the end. The first sixteen slots
# are keys and values, dotted lines ask.

# %%
figure, panels = plt.subplots(len(MIXERS), sharex=True, figsize=(7, 7))
for panel, mixer in zip(panels, MIXERS, strict=True):
  by_token = states[mixer].reshape(len(row.tokens), -1)
  before = np.concatenate([np.zeros_like(by_token[:1]), by_token[:-1]])
  moved = np.linalg.norm(by_token - before, axis=1)
  panel.bar(range(len(moved)), moved / np.linalg.norm(by_token[-1]))
  for at in asked:
    panel.axvline(at, color="grey", linestyle=":", linewidth=0.8)
  panel.set_ylabel(mixer.replace("_", "\n"))
panels[-1].set_xlabel("token")
plt.show()

# %% [markdown]
# ## What is there at the end
# Of attention the keys of all tokens, of the others one matrix.

# %%
figure, panels = plt.subplots(1, len(MIXERS), figsize=(11, 3.2))
for panel, mixer in zip(panels, MIXERS, strict=True):
  last = states[mixer][-1]
  head = last[:, 0] if mixer == "attention" else last[0]
  most = np.abs(head).max()
  panel.imshow(head, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
  panel.set(title=f"{mixer}\n{head.shape[0]} x {head.shape[1]}")
plt.tight_layout()
plt.show()

# %% [markdown]
# `model.mixer` has some forty of them; `ablax catalog` lists their papers.
