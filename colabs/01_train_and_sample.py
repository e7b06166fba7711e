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
# # Train a language model and sample from it
#
# A Llama-style decoder on the source code and the help of Python's own library:
# the one text that every machine has. About two minutes on a CPU.

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
# ## The config
# Every number of a run is a key of its config; `configs/base.py` lists them.

# %%
from ablax.train.config import load

config = load(
  "configs/lm/toy.py",
  {"steps": 200, "eval.every": 100, "eval.prompts": ("def ", "The ")},
)
config.model

# %% [markdown]
# ## Training
# Run the cell again after an interruption: it goes on where it stopped.

# %%
from ablax.train.loop import train

result = train(config, "runs/notebook")

# %%
from IPython.display import Image

Image(str(result.workdir / "loss.png"))

# %% [markdown]
# ## Sampling

# %%
from ablax.infer.sampling import Sampling, generate
from ablax.train.checkpoint import load_model

config, params, tokenizer = load_model(result.workdir)
samples = generate(
  config.model,
  params,
  tokenizer,
  ["import ", "class "],
  Sampling(temperature=0.8, top_p=0.95, max_tokens=60),
)
for prompt, sample in zip(["import ", "class "], samples, strict=True):
  print(prompt + sample.text, end="\n\n")
