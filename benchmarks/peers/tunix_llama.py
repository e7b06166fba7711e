"""Tunix's Llama 3 (nnx) under the jitted step of its PeftTrainer.

fp32, AdamW, no rematerialisation, layers one after another. The loss is given
to the trainer: its own one takes inputs and targets from the same T tokens, one
target a row less, and was slower.
"""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig
from tunix.sft.utils import build_positions_from_mask, make_causal_attn_mask
from worker import serve, tokens


def make(shape):
  rngs = nnx.Rngs(0)
  config = ModelConfig(
    num_layers=shape["n_layers"],
    vocab_size=shape["vocab_size"],
    embed_dim=shape["d_model"],
    hidden_dim=shape["ff_dim"],
    num_heads=shape["n_heads"],
    head_dim=shape["d_model"] // shape["n_heads"],
    num_kv_heads=shape["n_kv_heads"],
    rope_theta=10_000,
    norm_eps=1e-5,
    weight_tying=True,
  )
  model = Llama3(config, rngs=rngs)
  # It leaves the matrices of its feed-forward networks at zero, to be loaded:
  # from there they would never move.
  draw = nnx.initializers.normal(0.02)
  for layer in model.layers:
    for dense in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
      kernel = dense.kernel
      kernel[...] = draw(rngs.params(), kernel.shape)

  trainer = PeftTrainer(
    model,
    optax.adamw(1e-3, b2=0.95, weight_decay=0.1),
    TrainingConfig(eval_every_n_steps=1_000_000),
  )

  def loss_fn(model, inputs, targets, positions, attention_mask):
    logits, _ = model(inputs, positions, None, attention_mask)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, targets
    ).mean()

  def model_input(batch):
    mask = batch["mask"]
    return {
      "inputs": batch["inputs"],
      "targets": batch["targets"],
      "positions": build_positions_from_mask(mask),
      "attention_mask": make_causal_attn_mask(mask),
    }

  trainer.with_loss_fn(loss_fn).with_gen_model_input_fn(model_input)
  drawn = jnp.asarray(tokens(shape["vocab_size"]))
  inputs, targets = drawn[:, :-1], drawn[:, 1:]
  mask = jnp.ones(inputs.shape, bool)
  batch = {"inputs": inputs, "targets": targets, "mask": mask}
  train_step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)

  def step():
    return train_step(batch)[0].block_until_ready()

  n = sum(a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param)))
  versions = f"Tunix {version('google-tunix')}, jax {jax.__version__}"
  return step, {"parameters": n, "versions": versions}


if __name__ == "__main__":
  serve(make)
