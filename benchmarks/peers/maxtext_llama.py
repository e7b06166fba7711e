"""MaxText's llama2 decoder under its own jitted train step.

fp32, dot-product attention, one document a row, no rematerialisation, layers
one after another, its AdamW and clipping; set up as its `train_loop` does,
without checkpoints and loggers. Its tied output matrix is rounded to bfloat16
and multiplied in fp32. Embeddings begin at unit variance: a token's own logit
is high at first, so that the first loss is about 1.8 above log V.
"""

import contextlib
import sys
from importlib.metadata import version

import jax
import numpy as np
from flax import nnx
from flax.core.spmd import logical_axis_rules
from worker import B, T, serve, tokens

with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
  from maxtext.trainers.pre_train import train
  from maxtext.utils import sharding, train_utils


def configured(shape):
  settings = {
    "run_name": "peer",
    "hardware": "cpu",
    "skip_jax_distributed_system": True,
    "jax_cache_dir": "",
    "enable_checkpointing": False,
    "dataset_type": "synthetic",
    "packing": False,
    "per_device_batch_size": B,
    "max_target_length": T,
    "decoder_block": "llama2",
    "base_emb_dim": shape["d_model"],
    "base_num_decoder_layers": shape["n_layers"],
    "base_num_query_heads": shape["n_heads"],
    "base_num_kv_heads": shape["n_kv_heads"],
    "head_dim": shape["d_model"] // shape["n_heads"],
    "base_mlp_dim": shape["ff_dim"],
    "vocab_size": shape["vocab_size"],
    "logits_via_embedding": True,
    "attention": "dot_product",
    "dtype": "float32",
    "weight_dtype": "float32",
    "scan_layers": False,
    "opt_type": "adamw",
    "learning_rate": 1e-3,
    "warmup_steps_fraction": 0,
    "steps": 10_000,
  }
  words = [f"{key}={value}" for key, value in settings.items()]
  config, recorder = train.initialize(["", *words])
  # As a setting, "none" is read as no value at all, and then every layer is
  # rematerialised; the unscanned decoder goes without on this very word.
  config.get_keys()["remat_policy"] = "none"
  return config, recorder


def batch(vocab_size):
  drawn = tokens(vocab_size)
  positions = np.tile(np.arange(T, dtype=np.int32), (B, 1))
  ones = np.ones((B, T), np.int32)
  return {
    "inputs": drawn[:, :-1],
    "inputs_position": positions,
    "inputs_segmentation": ones,
    "targets": drawn[:, 1:],
    "targets_position": positions,
    "targets_segmentation": ones,
  }


def make(shape):
  config, recorder = configured(shape)
  setup = train_utils.setup_train_loop(config, recorder)
  _, _, shardings, model, mesh, *_, state = setup
  n = sum(a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param)))
  graph, state = nnx.split(state)
  of_params, shardings = sharding.maybe_update_params_sharding_with_opt(
    config, shardings
  )
  train_step, _ = train_utils.jit_train_and_eval_step(
    config,
    graph,
    mesh,
    state,
    shardings,
    train.train_step,
    params_shardings=of_params,
  )
  data = jax.device_put(
    batch(shape["vocab_size"]), sharding.get_input_data_sharding(config, mesh)
  )

  def step():
    nonlocal state
    with jax.set_mesh(mesh), logical_axis_rules(config.logical_axis_rules):
      state, metrics = train_step(state, data)
    return metrics["scalar"]["learning/loss"].block_until_ready()

  versions = f"MaxText {version('maxtext')}, jax {jax.__version__}"
  return step, {"parameters": n, "versions": versions}


if __name__ == "__main__":
  serve(make)
