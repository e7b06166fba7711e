"""Our training step, as `ablax train` runs it: packed rows, mesh, clipping."""

import dataclasses

import jax
import numpy as np
from worker import B, T, serve, tokens

from ablax.train import config as configs
from ablax.train.accounting import accounts
from ablax.train.evaluate import to_device
from ablax.train.peak import machine_peak
from ablax.train.setup import make_setup
from ablax.train.step import batch_shardings, make_train_step


def setup_of(shape):
  config = configs.load("configs/lm/tiny.py", {"data.seq_len": T})
  model = dataclasses.replace(
    config.model, head_dim=shape["d_model"] // shape["n_heads"], **shape
  )
  return make_setup(dataclasses.replace(config, model=model))


def batch(vocab_size):
  """Three packed documents a row."""
  lengths = (100, 80, T - 180)
  drawn = tokens(vocab_size)
  return {
    "tokens": drawn[:, :-1],
    "targets": drawn[:, 1:],
    "segment_ids": np.tile(np.repeat([1, 2, 3], lengths), (B, 1)).astype("i4"),
    "positions": np.tile(
      np.concatenate([np.arange(n) for n in lengths]), (B, 1)
    ).astype("i4"),
    "weights": np.ones((B, T), np.float32),
    "example_ids": np.arange(B, dtype=np.int32),
  }


def make(shape):
  setup = setup_of(shape)
  state, train_step = setup.init(), make_train_step(setup)
  shardings = batch_shardings(setup.layout)
  host = batch(shape["vocab_size"])

  def step():
    nonlocal state
    state, metrics = train_step(state, to_device(host, shardings))
    return metrics["loss"].block_until_ready()

  return step, {
    "parameters": sum(a.size for a in jax.tree.leaves(state.params)),
    "versions": f"jax {jax.__version__}",
    "flops_per_token": accounts(setup).train_flops,
    "peak_flops": machine_peak("float32"),
  }


if __name__ == "__main__":
  serve(make)
