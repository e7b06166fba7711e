"""Mixtures of experts are transformers' blocks, on the same weights.

Outputs, and gradients of the input and of every weight, in fp32.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ablax.models import penalty
from ablax.models.context import Context, DropoutKey
from ablax.models.ffn import FFNS
from ablax.models.param import init_params, path_of, specs

PROVES = (
  "ffn:moe",
  "router:softmax",
  "router:sigmoid",
  "router:switch",
  "feature:shared_experts",
  "feature:expert_capacity",
)
AGAINST = {
  "ffn:moe": "transformers MixtralSparseMoeBlock",
  "router:softmax": "transformers MixtralSparseMoeBlock, DeepseekV2Moe",
  "router:sigmoid": "transformers DeepseekV3MoE",
  "router:switch": "transformers SwitchTransformersSparseMLP",
  "feature:shared_experts": "transformers Qwen2MoeSparseMoeBlock",
  "feature:expert_capacity": "transformers SwitchTransformersSparseMLP",
}

B, T, D = 2, 13, 24


def gated(kernels, prefix=""):
  """Our gate, up and down as the fused experts of transformers."""
  gate, up, down = (
    np.swapaxes(kernels[f"experts/{name}/kernel"], 1, 2)
    for name in ("gate", "up", "down")
  )
  return {
    f"{prefix}experts.gate_up_proj": np.concatenate([gate, up], axis=1),
    f"{prefix}experts.down_proj": down,
    f"{prefix}gate.weight": kernels["router/logits/kernel"].T,
  }


def shared(kernels, name):
  return {
    f"{name}.{part}_proj.weight": kernels[f"shared/{part}/kernel"].T
    for part in ("gate", "up", "down")
  }


def qwen2(ours):
  found = gated(ours) | shared(ours, "shared_expert")
  return found | {"shared_expert_gate.weight": ours["shared_gate/kernel"].T}


def deepseek_v2(ours):
  return gated(ours) | shared(ours, "shared_experts")


def deepseek_v3(ours):
  found = deepseek_v2(ours)
  return found | {"gate.e_score_correction_bias": ours["router/bias"]}


def switch(ours):
  found = {"router.classifier.weight": ours["router/logits/kernel"].T}
  for name, theirs in (("up", "wi"), ("down", "wo")):
    for e, kernel in enumerate(ours[f"experts/{name}/kernel"]):
      found[f"experts.expert_{e}.{theirs}.weight"] = kernel.T
  return found


def block(name, kind, **settings):
  """Makes a block of transformers from its configuration's values."""
  found = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
  theirs = importlib.import_module(
    f"transformers.models.{name}.configuration_{name}"
  )
  config = next(
    k for k in vars(theirs) if k.lower() == f"{name.replace('_', '')}config"
  )
  made = getattr(theirs, config)(**settings)
  made._experts_implementation = "eager"
  return getattr(found, kind)(made)


SIZES = {"hidden_size": D, "intermediate_size": 40}
DEEPSEEK = SIZES | {
  "num_attention_heads": 4,
  "n_routed_experts": 8,
  "num_experts_per_tok": 3,
  "moe_intermediate_size": 16,
  "n_shared_experts": 2,
  "n_group": 4,
  "topk_group": 2,
}
OURS = {
  "moe.n_experts": 8,
  "moe.top_k": 3,
  "moe.expert_dim": 16,
  "moe.shared_experts": 2,
}
CASES = {
  "mixtral": (
    {"moe.n_experts": 4, "moe.top_k": 2},
    gated,
    lambda: block(
      "mixtral",
      "MixtralSparseMoeBlock",
      **SIZES,
      num_local_experts=4,
      num_experts_per_tok=2,
    ),
  ),
  "qwen2_moe": (
    OURS | {"moe.shared_gate": True, "softmax.renormalize": False},
    qwen2,
    lambda: block(
      "qwen2_moe",
      "Qwen2MoeSparseMoeBlock",
      **SIZES,
      num_experts=8,
      num_experts_per_tok=3,
      moe_intermediate_size=16,
      shared_expert_intermediate_size=32,
    ),
  ),
  "deepseek_v2": (
    OURS
    | {
      "softmax.renormalize": False,
      "softmax.scale": 1.7,
      "softmax.n_groups": 4,
      "softmax.top_groups": 2,
    },
    deepseek_v2,
    lambda: block(
      "deepseek_v2",
      "DeepseekV2Moe",
      **DEEPSEEK,
      topk_method="group_limited_greedy",
      routed_scaling_factor=1.7,
    ),
  ),
  "deepseek_v3": (
    OURS
    | {
      "moe.router": "sigmoid",
      "sigmoid.scale": 2.5,
      "sigmoid.n_groups": 4,
      "sigmoid.top_groups": 2,
      "sigmoid.bias_rate": 1e-3,
    },
    deepseek_v3,
    lambda: block("deepseek_v3", "DeepseekV3MoE", **DEEPSEEK),
  ),
  "switch": (
    {
      "moe.n_experts": 4,
      "moe.top_k": 1,
      "moe.router": "switch",
      "moe.expert": "mlp",
      "mlp.activation": "relu",
      # ceil(C T / E) of their capacity of 2: some tokens are dropped.
      "moe.capacity_factor": 0.6,
    },
    switch,
    lambda: block(
      "switch_transformers",
      "SwitchTransformersSparseMLP",
      d_model=D,
      d_ff=40,
      num_experts=4,
      expert_capacity=2,
      router_jitter_noise=0.0,
      dropout_rate=0.0,
    ),
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_block_and_its_gradients(model_config, name):
  opts, peer, build = CASES[name]
  config = model_config(ffn="moe", opts=opts)
  ffn = FFNS["moe"](config)
  rng = np.random.default_rng(0)
  x, dy = (rng.normal(size=(B, T, D)).astype(np.float32) for _ in "xy")
  slots = jnp.broadcast_to(jnp.arange(T), (B, T))
  ctx = Context(slots, dropout=DropoutKey(jnp.uint32(0), jnp.arange(B)))
  declared = specs(ffn, jnp.asarray(x), ctx)
  params = init_params(declared, jax.random.key(0))
  # A router's logits far apart, so that no rounding changes a choice.
  params["router"]["logits"]["kernel"] *= 3
  if "bias" in params["router"]:
    params["router"]["bias"] = jnp.asarray(rng.normal(size=8) / 4, jnp.float32)

  @jax.jit
  def run(params, x, dy):
    def forward(params, x):
      return ffn.apply(
        {"params": params}, x, ctx, mutable=list(penalty.COLLECTIONS)
      )

    y, back, seen = jax.vjp(forward, params, x, has_aux=True)
    return y, *back(dy), seen[penalty.MEASURES]["dropped"]

  y, grads, dx, dropped = run(params, x, dy)
  assert (float(dropped.max()) > 0) == (name == "switch")

  def by_path(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_of(path): np.asarray(leaf) for path, leaf in leaves}

  theirs = build().train()
  given = {k: torch.tensor(v) for k, v in peer(by_path(params)).items()}
  theirs.load_state_dict(given, strict=True)
  x_t = torch.tensor(x, requires_grad=True)
  out = theirs(x_t)
  out = out[0] if isinstance(out, tuple) else out
  (out * torch.tensor(dy)).sum().backward()

  # fp32 sums of up to 40 products in another order.
  close = {"rtol": 0, "atol": 3e-5}
  np.testing.assert_allclose(y, out.detach().numpy(), **close)
  np.testing.assert_allclose(dx, x_t.grad.numpy(), **close)
  wanted = peer(by_path(grads))
  for path, p in theirs.named_parameters():
    if p.grad is None:
      assert not np.abs(wanted[path]).max() > 0, path
      continue
    size = max(1, float(p.grad.abs().max()))
    np.testing.assert_allclose(
      wanted[path], p.grad.numpy(), rtol=0, atol=3e-5 * size, err_msg=path
    )
