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
# # A mixture of experts, and how even its load is
#
# Two of eight experts for each token, with a balance loss and without. Two
# minutes on a CPU.

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
# ## Parameters and what a token passes
# An expert is a network of its own; a router gives each token its two best.

# %%
from ablax.train.accounting import accounts
from ablax.train.config import load
from ablax.train.setup import make_setup

MOE = {
  "model.ffn": "moe",
  "model.opts.moe.n_experts": 8,
  "model.opts.moe.top_k": 2,
  "model.opts.moe.expert_dim": 88,  # 2 x 88 = the 176 of the dense model
}
for name, changes in {"dense": {}, "2 of 8 experts": MOE}.items():
  config = load("configs/lm/toy.py", {**changes, "model.vocab_size": 1024})
  found = accounts(make_setup(config))
  print(
    f"{name:<16}{found.params:>9,} parameters,"
    f" {found.forward_flops:>9,.0f} FLOPs a token"
  )

# %% [markdown]
# ## Training, and the load of each layer
# The busiest expert's share of the tokens over its even share, which stands in
# the metrics as `moe/max_load/LAYER`.

# %%
import matplotlib.pyplot as plt

from ablax.train.logs import read_metrics
from ablax.train.loop import train

SHORT = {"steps": 100, "eval.every": 0, "log.every": 5, "log.progress": False}
for name, weight in {"balance loss": 0.01, "without": 0.0}.items():
  loss = {"model.opts.softmax.balance_loss": weight}
  config = load("configs/lm/toy.py", {**MOE, **SHORT, **loss})
  result = train(config, f"runs/experts/{name}")
  lines = [x for x in read_metrics(result.workdir) if "moe/max_load/0" in x]
  steps = [x["step"] for x in lines]
  for layer, dashes in ((0, "-"), (1, "--")):
    load_of = [x[f"moe/max_load/{layer}"] for x in lines]
    plt.plot(steps, load_of, dashes, label=f"{name}, layer {layer}")
  print(f"{name}: {result.heldout['bits_per_byte']:.3f} bits per byte")
plt.axhline(1.0, color="grey", linewidth=0.8)
plt.xlabel("update")
plt.ylabel("load of the busiest expert")
plt.legend()
plt.show()

# %% [markdown]
# `configs/ablations/experts.py` and `routers.py` compare them with seeds and
# intervals, six routers among them.
