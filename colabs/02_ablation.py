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
# # An ablation of yours in ten lines
#
# Arms, seeds, a fair budget, and the figure and table of the paper: from one
# config file. About two minutes on a CPU.

# %%
# ablax from this checkout, if the notebook lies in one, or else from Git; the
# machine's own jax, which knows its GPU or TPU, stays as it is.
import importlib.util
import os
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
# The processes that train need an accelerator's memory; the notebook does not.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

# %% [markdown]
# ## The question
# Does a feed-forward network that is twice as wide help, if the model must then
# have fewer updates so as to cost as many FLOPs?

# %%
# %%writefile my_ablation.py
"""Twice the feed-forward width is worth its FLOPs."""

from ablax.configs.lm import toy


def get_config():
  config = toy.get_config()
  config.steps = 100
  return config


def sweep():
  return {
    "grid": {"model.ff_dim": (176, 352)},
    "budget": "flops",
    "solve": "steps",
    "seeds": 3,
  }


# %% [markdown]
# ## What it would cost

# %%
from rich.console import Console

from ablax.ablate.run import Options, ablate, dry_run

dry_run("my_ablation.py", {}, Options(), Console(width=100))

# %% [markdown]
# ## The answer
# Six runs, each an ordinary run of the trainer. The same cell goes on after an
# interruption and repeats nothing that has finished.

# %%
outcome = ablate("my_ablation.py", pathlib.Path("runs/my_ablation"))

# %%
from IPython.display import Image, Markdown, display

for figure in sorted(outcome.folder.glob("figures/*.png")):
  display(Image(str(figure)))
Markdown((outcome.folder / "report.md").read_text())
