"""The zoo's recurrences and hybrids: transformers' own functions and counts.

Small models of each line have the logits of its class, in fp32.
"""

import numpy as np
import pytest
from test_zoo import (
  COUNTS,
  GROUPED,
  D,
  F,
  H,
  K,
  N,
  blocks,
  check_logits,
  norm,
  peer,
  put,
)


def into(*projections):
  """Kernels [D, ...] as one torch Linear's [out, D]."""
  return np.concatenate([p["kernel"].reshape(D, -1).T for p in projections])


def out(projection):
  """A kernel [..., D] as [D, in]."""
  return projection["kernel"].reshape(-1, D).T


def convs(mixer, *names):
  """Convolutions of several channels as one torch Conv1d."""
  kernels = [mixer[name]["kernel"] for name in names]
  kernels = [kernel.reshape(len(kernel), -1).T for kernel in kernels]
  yield "weight", np.concatenate(kernels)[:, None]
  if "bias" in mixer[names[0]]:
    yield "bias", np.concatenate([mixer[n]["bias"].reshape(-1) for n in names])


def mamba(mixer):
  yield "in_proj.weight", into(mixer["x"], mixer["gate"])
  for name, value in convs(mixer, "conv"):
    yield f"conv1d.{name}", value
  small = [mixer[name]["kernel"][0].T for name in ("dt_down", "b", "c")]
  yield "x_proj.weight", np.concatenate(small)
  yield "dt_proj.weight", mixer["dt_up"]["kernel"][0].T
  yield "dt_proj.bias", mixer["dt_bias"]
  yield "A_log", mixer["log_rate"]
  yield "D", mixer["skip"]
  yield "out_proj.weight", out(mixer["o"])
  for ours, theirs in (("dt_down", "dt"), ("b", "b"), ("c", "c")):
    if f"{ours}_norm" in mixer and "scale" in mixer[f"{ours}_norm"]:
      yield f"{theirs}_layernorm.weight", mixer[f"{ours}_norm"]["scale"]


def mamba2(mixer):
  of = [mixer[name] for name in ("gate", "x", "b", "c")]
  yield "in_proj.weight", into(*of, mixer["decay"]["step"])
  for name, value in convs(mixer, "conv_x", "conv_b", "conv_c"):
    yield f"conv1d.{name}", value
  yield "dt_bias", mixer["decay"]["bias"]
  yield "A_log", mixer["decay"]["log_rate"]
  yield "D", mixer["skip"]
  yield "out_proj.weight", out(mixer["o"])
  if "norm" in mixer:
    yield "norm.weight", mixer["norm"]["scale"].reshape(-1)


def rg_lru(mixer):
  for ours, theirs in (("x", "linear_x"), ("gate", "linear_y")):
    yield f"{theirs}.weight", into(mixer[ours])
    yield f"{theirs}.bias", mixer[ours]["bias"].reshape(-1)
  for name, value in convs(mixer, "conv"):
    yield f"conv_1d.{name}", value
  for ours, theirs in (("input", "input"), ("decay", "recurrent")):
    yield f"rg_lru.{theirs}_gate_weight", mixer[f"{ours}_gate"]["kernel"]
    yield f"rg_lru.{theirs}_gate_bias", mixer[f"{ours}_gate_bias"]
  yield "rg_lru.recurrent_param", mixer["log_rate"].reshape(-1)
  yield "linear_out.weight", out(mixer["o"])
  yield "linear_out.bias", mixer["o"]["bias"]


def attention(mixer):
  for name in "kv":
    yield f"{name}_proj.weight", into(mixer[name])
  q = mixer["q"]["kernel"]
  if "output_gate" in mixer:  # a head's queries, then its gate
    q = np.concatenate([q, mixer["output_gate"]["gate"]["kernel"]], axis=-1)
  yield "q_proj.weight", into({"kernel": q})
  yield "o_proj.weight", out(mixer["o"])
  if "bias" in mixer["o"]:
    yield "o_proj.bias", mixer["o"]["bias"]
  for name in ("q_norm", "k_norm"):
    if name in mixer:
      yield f"{name}.weight", mixer[name]["scale"] - 1


def gated_delta_net(mixer):
  G = mixer["q"]["kernel"].shape[1]

  def by_group(*projections):
    kernels = [p["kernel"].reshape(D, G, -1) for p in projections]
    return into({"kernel": np.concatenate(kernels, axis=-1)})

  of = [mixer[name] for name in ("q", "k", "v", "gate")]
  yield "in_proj_qkvz.weight", by_group(*of)
  pair = by_group(mixer["beta"], mixer["decay"]["step"])
  yield "in_proj_ba.weight", pair
  for name, value in convs(mixer, "conv_q", "conv_k", "conv_v"):
    yield f"conv1d.{name}", value
  yield "dt_bias", mixer["decay"]["bias"]
  yield "A_log", mixer["decay"]["log_rate"]
  yield "norm.weight", mixer["norm"]["scale"]
  yield "out_proj.weight", out(mixer["o"])


def glu(ffn):
  for name in ("gate", "up", "down"):
    yield f"{name}_proj.weight", ffn[name]["kernel"].T
    if "bias" in ffn[name]:
      yield f"{name}_proj.bias", ffn[name]["bias"]


def experts(ffn):
  gate, up, down = (ffn["experts"][n]["kernel"] for n in ("gate", "up", "down"))
  both = np.concatenate([gate, up], axis=-1)
  yield "experts.gate_up_proj", np.swapaxes(both, 1, 2)
  yield "experts.down_proj", np.swapaxes(down, 1, 2)


def by_mamba(config, params):
  theirs, mixer = {}, {"mamba": mamba, "mamba2": mamba2}[config.mixers[0]]
  theirs["backbone.embeddings.weight"] = params["embedding"]
  if not config.tie_embeddings:
    theirs["lm_head.weight"] = params["unembedding"]
  put(theirs, "backbone.norm_f", norm(params["final_norm"]))
  for i, block in enumerate(blocks(config, params)):
    put(theirs, f"backbone.layers.{i}.norm", norm(block["mixer_norm"]))
    put(theirs, f"backbone.layers.{i}.mixer", mixer(block["mixer"]))
  return theirs


def by_layers(config, params, *, final, norms, parts, offset=0.0):
  """Names of a decoder with layers of two branches.

  Args:
    final, norms: names of theirs.
    parts: what a layer's mixer and ffn are there, as (place, tensor names and
      tensors); it gets the block.
    offset: their norms add it to what they store.
  """
  theirs = {"model.embed_tokens.weight": params["embedding"]}
  if not config.tie_embeddings:
    theirs["lm_head.weight"] = params["unembedding"]
  put(theirs, f"model.{final}", norm(params["final_norm"], offset))
  for i, block in enumerate(blocks(config, params)):
    at = f"model.layers.{i}"
    for ours, name in zip(("mixer_norm", "ffn_norm"), norms, strict=True):
      put(theirs, f"{at}.{name}", norm(block[ours], offset))
    for place, tensors in parts(block):
      put(theirs, f"{at}.{place}", tensors)
  return theirs


def by_jamba(config, params):
  def parts(block):
    mixer, ffn = block["mixer"], block["ffn"]
    if "q" in mixer:
      yield "self_attn", attention(mixer)
    else:
      yield "mamba", mamba(mixer)
    if "router" in ffn:
      router = ffn["router"]["logits"]["kernel"].T
      yield "feed_forward.router", [("weight", router)]
      yield "feed_forward", experts(ffn)
    else:
      yield "feed_forward", glu(ffn)

  norms = ("input_layernorm", "pre_ff_layernorm")
  return by_layers(
    config, params, final="final_layernorm", norms=norms, parts=parts
  )


def by_recurrent_gemma(config, params):
  def parts(block):
    mixer = block["mixer"]
    kind = attention if "q" in mixer else rg_lru
    yield "temporal_block", kind(mixer)
    yield "mlp_block", glu(block["ffn"])

  return by_layers(
    config,
    params,
    final="final_norm",
    norms=("temporal_pre_norm", "channel_pre_norm"),
    parts=parts,
    offset=1.0,
  )


def by_qwen3_next(config, params):
  def parts(block):
    mixer, ffn = block["mixer"], block["ffn"]
    if "beta" in mixer:
      yield "linear_attn", gated_delta_net(mixer)
    else:
      yield "self_attn", attention(mixer)
    yield "mlp.gate", [("weight", ffn["router"]["logits"]["kernel"].T)]
    yield "mlp", experts(ffn)
    yield "mlp.shared_expert", glu(ffn["shared"])
    gate = ffn["shared_gate"]["kernel"].T
    yield "mlp.shared_expert_gate", [("weight", gate)]

  return by_layers(
    config,
    params,
    final="norm",
    norms=("input_layernorm", "post_attention_layernorm"),
    parts=parts,
    offset=1.0,
  )


def zamba_mamba(mixer):
  H = len(mixer["b"]["kernel"])
  pair = [into(mixer[name]) for name in ("x", "gate")]
  yield "in_proj.weight", np.stack(pair, axis=1).reshape(-1, D)
  for name, value in convs(mixer, "conv"):
    yield f"conv1d.{name}", value
  small = [mixer[name]["kernel"] for name in ("dt_down", "b", "c")]
  small = np.concatenate(small, axis=-1)
  yield "x_proj_weight", np.swapaxes(small, 1, 2)
  yield "dt_proj_weight", np.swapaxes(mixer["dt_up"]["kernel"], 1, 2)
  yield "dt_proj_bias", mixer["dt_bias"].reshape(H, -1)
  yield "A_log", mixer["log_rate"].reshape(H, -1, mixer["log_rate"].shape[-1])
  yield "D", mixer["skip"].reshape(H, -1)
  yield "out_proj.weight", out(mixer["o"])


def by_zamba(config, params):
  shared = params["tied"]["shared_block"]
  theirs = {"model.embed_tokens.weight": params["embedding"]}
  put(theirs, "model.final_layernorm", norm(params["final_norm"]))
  for i, block in enumerate(blocks(config, params)):
    mixer, at = block["mixer"], f"model.layers.{i}"
    if "down" in mixer:
      put(theirs, f"{at}.linear", [("weight", mixer["down"]["kernel"].T)])
      of = f"{at}.shared_transf"
      put(theirs, f"{of}.input_layernorm", norm(shared["norm"]))
      put(theirs, f"{of}.pre_ff_layernorm", norm(shared["ffn_norm"]))
      for name in "qkv":
        weight = [("weight", shared["attention"][name]["kernel"])]
        weight = [(k, v.reshape(2 * D, -1).T) for k, v in weight]
        put(theirs, f"{of}.self_attn.{name}_proj", weight)
      weight = [("weight", out(shared["attention"]["o"]))]
      put(theirs, f"{of}.self_attn.o_proj", weight)
      put(theirs, f"{of}.feed_forward", glu(shared["ffn"]))
      at, before, mixer = f"{at}.mamba_decoder", mixer["norm"], mixer["mixer"]
    else:
      before = block["mixer_norm"]
    put(theirs, f"{at}.input_layernorm", norm(before))
    put(theirs, f"{at}.mamba", zamba_mamba(mixer))
  return theirs


LM_HEAD = 0.25  # of the logits: ours have it in the output matrix


def by_falcon_h1(config, params):
  def parts(block):
    yield "self_attn", attention(block["mixer"]["attention"])
    yield "mamba", mamba2(block["mixer"]["mamba2"])
    yield "feed_forward", glu(block["ffn"])

  theirs = by_layers(
    config,
    params,
    final="final_layernorm",
    norms=("input_layernorm", "pre_ff_layernorm"),
    parts=parts,
  )
  theirs["lm_head.weight"] = theirs["lm_head.weight"] / LM_HEAD
  return theirs


ROPE = {"rope_type": "default", "rope_theta": 1e4}
EXPERTS = {"model.opts.moe.n_experts": 6, "model.opts.moe.top_k": 2}
SMALL_MAMBA = {"state_size": 7, "conv_kernel": 4, "expand": 2}
FALCON_H1_OURS = GROUPED | {
  "model.embed_scale": 2.5,
  "model.opts.attention.scale": 0.4 * H**-0.5,
  "model.opts.parallel_heads.multipliers_in": (0.9, 1.25),
  "model.opts.parallel_heads.multipliers_out": (0.94, 0.24),
  "model.opts.mamba2.channels": 48,
  "model.opts.mamba2.head_dim": 8,
  "model.opts.mamba2.state": 7,
  "model.opts.mamba2.multipliers": (0.35, 0.25, 0.35, 0.5, 0.7),
  "model.opts.glu.multipliers": (0.88, 0.59),
}
FALCON_H1_THEIRS = {
  "num_key_value_heads": K,
  "intermediate_size": F,
  "head_dim": H,
  "rms_norm_eps": 1e-5,
  "rope_parameters": ROPE | {"rope_theta": 1e11},
  "embedding_multiplier": 2.5,
  "lm_head_multiplier": LM_HEAD,
  "key_multiplier": 0.4,
  "attention_in_multiplier": 0.9,
  "ssm_in_multiplier": 1.25,
  "attention_out_multiplier": 0.94,
  "ssm_out_multiplier": 0.24,
  "ssm_multipliers": [0.35, 0.25, 0.35, 0.5, 0.7],
  "mlp_multipliers": [0.88, 0.59],
  "mamba_d_ssm": 48,
  "mamba_n_heads": 6,
  "mamba_d_head": 8,
  "mamba_d_state": 7,
  "mamba_norm_before_gate": False,
}
# Entry -> transformers' family, names, layers, what is small here, and there.
FUNCTIONS = {
  "mamba_130m": (
    *("Mamba", by_mamba, 3, {"model.opts.mamba.state": 7}),
    SMALL_MAMBA,
  ),
  "mamba2_130m": (
    *("Mamba2", by_mamba, 3),
    {"model.opts.mamba2.state": 7, "model.opts.mamba2.head_dim": 16},
    SMALL_MAMBA
    | {"num_heads": 4, "head_dim": 16, "n_groups": 1}
    | {"tie_word_embeddings": True},
  ),
  "falcon_mamba_7b": (
    *("FalconMamba", by_mamba, 3, {"model.opts.mamba.state": 7}),
    SMALL_MAMBA | {"mixer_rms_eps": 1e-6, "tie_word_embeddings": False},
  ),
  "jamba_v0_1": (
    *("Jamba", by_jamba, 5, GROUPED | EXPERTS),
    {
      "num_key_value_heads": K,
      "intermediate_size": F,
      "num_experts": 6,
      "num_experts_per_tok": 2,
    },
  ),
  "recurrentgemma_2b": (
    *("RecurrentGemma", by_recurrent_gemma, 5),
    GROUPED
    | {
      "model.n_kv_heads": 1,
      "model.embed_scale": 5.65625,  # theirs is rounded to bf16
      "model.opts.sliding_window.window": 5,
    },
    {
      "num_key_value_heads": 1,
      "intermediate_size": 2 * F,
      "attention_window_size": 5,
    },
  ),
  "qwen3_next_80b_a3b": (
    *("Qwen3Next", by_qwen3_next, 4),
    GROUPED
    | EXPERTS
    | {
      "model.opts.gated_delta_net.n_heads": 6,
      "model.opts.gated_delta_net.n_key_heads": 2,
      "model.opts.gated_delta_net.key_dim": 5,
      "model.opts.gated_delta_net.value_dim": 4,
    },
    {
      "num_key_value_heads": K,
      "head_dim": H,
      "linear_num_value_heads": 6,
      "linear_num_key_heads": 2,
      "linear_key_head_dim": 5,
      "linear_value_head_dim": 4,
      "num_experts": 6,
      "num_experts_per_tok": 2,
      "moe_intermediate_size": F,
      "shared_expert_intermediate_size": F,
      "rope_parameters": ROPE
      | {"rope_theta": 1e7, "partial_rotary_factor": 0.25},
    },
  ),
  "zamba_7b": (
    *("Zamba", by_zamba, 8),  # the shared block in two
    {
      "model.ff_dim": F,
      "model.head_dim": 2 * D // N,
      "model.opts.attention.scale": (D // N) ** -0.5,
      "model.opts.mamba.state": 7,
    },
    {
      "num_key_value_heads": N,
      "intermediate_size": F,
      "attention_head_dim": 2 * D // N,
      "head_dim": 2 * D // N,
      "mamba_d_state": 7,
    },
  ),
  "falcon_h1_0_5b": (
    *("FalconH1", by_falcon_h1, 3, FALCON_H1_OURS),
    FALCON_H1_THEIRS | {"mamba_n_groups": 1, "mamba_rms_norm": False},
  ),
  "falcon_h1_34b": (
    *("FalconH1", by_falcon_h1, 3, FALCON_H1_OURS),
    FALCON_H1_THEIRS | {"mamba_n_groups": 2, "mamba_rms_norm": True},
  ),
}


# Those of options that no other test compares; the rest when there is time.
FUNCTIONS_QUICK = ("recurrentgemma_2b", "zamba_7b", "falcon_h1_0_5b")


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(
      name, marks=[] if name in FUNCTIONS_QUICK else pytest.mark.slow
    )
    for name in FUNCTIONS
  ],
)
def test_a_small_one_has_the_logits_of_transformers(name):
  check_logits(name, *FUNCTIONS[name])


def sizes(family, names, rows, more=None):
  """Entries of a line: a row has sizes, in the order of `names`."""
  return {
    entry: (family, dict(zip(names, row, strict=True)) | (more or {}))
    for entry, row in rows.items()
  }


DEPTH = ("hidden_size", "num_hidden_layers")
# Entry -> transformers' family, and what its config has not by default.
PEERS = {
  **sizes(
    "Mamba",
    DEPTH,
    {
      "mamba_130m": (768, 24),
      "mamba_370m": (1024, 48),
      "mamba_790m": (1536, 48),
      "mamba_1_4b": (2048, 48),
      "mamba_2_8b": (2560, 64),
    },
  ),
  **sizes(
    "Mamba2",
    (*DEPTH, "num_heads"),
    {
      "mamba2_130m": (768, 24, 24),
      "mamba2_370m": (1024, 48, 32),
      "mamba2_780m": (1536, 48, 48),
      "mamba2_1_3b": (2048, 48, 64),
      "mamba2_2_7b": (2560, 64, 80),
    },
    {"vocab_size": 50288, "n_groups": 1, "tie_word_embeddings": True},
  ),
  **sizes(
    "FalconMamba",
    (*DEPTH, "vocab_size", "tie_word_embeddings"),
    {"falcon_mamba_7b": (4096, 64, 65024, False)},
  ),
  "jamba_v0_1": ("Jamba", {}),
  "jamba_1_5_mini": ("Jamba", {}),
  **sizes(
    "Jamba",
    (*DEPTH, "intermediate_size", "num_attention_heads", "mamba_dt_rank"),
    {"jamba_1_5_large": (8192, 72, 24576, 64, 512)},
  ),
  **sizes(
    "RecurrentGemma",
    (*DEPTH, "intermediate_size", "num_attention_heads"),
    {
      "recurrentgemma_2b": (2560, 26, 15360, 10),
      "recurrentgemma_9b": (4096, 38, 24576, 16),
    },
    {"num_key_value_heads": 1},
  ),
  "qwen3_next_80b_a3b": ("Qwen3Next", {}),
  "zamba_7b": ("Zamba", {}),
  **sizes(
    "FalconH1",
    (
      *(*DEPTH, "num_attention_heads", "num_key_value_heads", "head_dim"),
      *("intermediate_size", "vocab_size", "mamba_n_heads", "mamba_d_head"),
      *("mamba_d_ssm", "mamba_d_state", "mamba_n_groups", "mamba_rms_norm"),
    ),
    {
      "falcon_h1_0_5b": (
        *(1024, 36, 8, 2, 64, 2048, 32784),
        *(24, 64, 1536, 128, 1, False),
      ),
      "falcon_h1_1_5b": (
        *(2048, 24, 8, 2, 128, 4608, 65537),
        *(48, 64, 3072, 256, 1, True),
      ),
      "falcon_h1_3b": (
        *(2560, 32, 10, 2, 128, 6144, 65537),
        *(32, 128, 4096, 256, 1, True),
      ),
      "falcon_h1_7b": (
        *(3072, 44, 12, 2, 128, 12288, 130049),
        *(24, 128, 3072, 256, 1, True),
      ),
      "falcon_h1_34b": (
        *(5120, 72, 20, 4, 128, 21504, 261120),
        *(32, 128, 4096, 256, 2, True),
      ),
    },
  ),
}


@pytest.mark.long  # transformers' classes of some thousand modules
@pytest.mark.parametrize("name", PEERS)
def test_transformers_counts_as_many_parameters(name):
  import torch

  family, settings = PEERS[name]
  with torch.device("meta"):
    model = peer(family, **settings)
  model.tie_weights()
  assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
