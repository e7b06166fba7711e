"""Mixers and positions are transformers' modules, on the same weights.

Outputs, and gradients of the input and of every weight, in fp32. Theirs are
built with random weights; each case says where ours go in them.
"""

import importlib

import numpy as np
import pytest
import torch
from peers import B, Case, D, T, check, flat, module

PROVES = (
  "mixer:attention",
  "mixer:sliding_window",
  "mixer:differential",
  "mixer:longformer",
  "mixer:mla",
  "position:alibi",
  "position:t5",
  "position:deberta",
  "feature:soft_cap_attention",
  "feature:attention_sinks",
  "feature:qk_norm",
)
AGAINST = {
  "mixer:attention": "transformers Qwen2Attention, Qwen3Attention",
  "mixer:sliding_window": "transformers MistralAttention",
  "mixer:differential": "transformers DiffLlamaAttention",
  "mixer:longformer": "transformers LongformerSelfAttention",
  "mixer:mla": "transformers DeepseekV2Attention, DeepseekV3Attention",
  "position:alibi": "transformers build_alibi_tensor",
  "position:t5": "transformers T5Attention",
  "position:deberta": "transformers DisentangledSelfAttention",
  "feature:soft_cap_attention": "transformers Gemma2Attention",
  "feature:attention_sinks": "transformers GptOssAttention",
  "feature:qk_norm": "transformers Qwen3Attention",
}

N_GLOBAL = 2


def usual(ours, prefix="", names=("q_proj", "k_proj", "v_proj", "o_proj")):
  """The four projections, with the biases that there are."""
  found = {}
  for name, theirs in zip("qkvo", names, strict=True):
    kernel = ours[f"mixer/{name}/kernel"]
    if name == "o":
      kernel = kernel.reshape(-1, kernel.shape[-1]).T
    else:
      kernel = flat(kernel)
    found[f"{prefix}{theirs}.weight"] = kernel
    if f"mixer/{name}/bias" in ours:
      found[f"{prefix}{theirs}.bias"] = ours[f"mixer/{name}/bias"].reshape(-1)
  return found


def peer_of(name: str, **more):
  """A builder of the attention of a transformers model, with its rotation."""

  def build(config):
    found = module(name)
    theirs = importlib.import_module(
      f"transformers.models.{name}.configuration_{name}"
    )
    kind = next(
      k for k in vars(theirs) if k.lower() == f"{name.replace('_', '')}config"
    )
    word = kind.removesuffix("Config")
    given = {
      "hidden_size": D,
      "num_attention_heads": config.n_heads,
      "num_key_value_heads": config.n_kv_heads,
      "head_dim": config.head_dim,
      "rms_norm_eps": config.norm_eps,
      "attn_implementation": "eager",
      "max_position_embeddings": config.max_len,
    } | more
    settings = getattr(theirs, kind)(**given)
    attention = getattr(found, f"{word}Attention")(settings, layer_idx=1)
    rotary = getattr(found, f"{word}RotaryEmbedding")(settings)

    def call(x, mask):
      at = rotary(x, torch.arange(T)[None].expand(B, T))
      return attention(
        hidden_states=x, position_embeddings=at, attention_mask=mask
      )[0]

    return attention, call

  return build


def gpt_oss(ours):
  return usual(ours) | {"sinks": ours["mixer/sinks"]}


def qwen3(ours):
  return usual(ours) | {
    f"{name}_norm.weight": ours[f"mixer/{name}_norm/scale"] for name in "qk"
  }


def differential(ours):
  names = [f"lambda_{a}{i}" for a in "qk" for i in (1, 2)]
  return usual(ours) | {name: ours[f"mixer/{name}"] for name in names}


def longformer(ours):
  found = {"out.weight": ours["mixer/o/kernel"].reshape(-1, D).T}
  found["out.bias"] = ours["mixer/o/bias"]
  names = {"q": "query", "k": "key", "v": "value"}
  for name, theirs in names.items():
    for of, more in (("", ""), ("global_", "_global")):
      place = f"mixer/{of}{name}"
      found[f"{theirs}{more}.weight"] = flat(ours[f"{place}/kernel"])
      found[f"{theirs}{more}.bias"] = ours[f"{place}/bias"].reshape(-1)
  return found


def build_longformer(config):
  theirs = importlib.import_module(
    "transformers.models.longformer.configuration_longformer"
  )
  settings = theirs.LongformerConfig(
    hidden_size=D,
    num_attention_heads=config.n_heads,
    attention_probs_dropout_prob=0.0,
    attention_window=[4, 4],  # 2 on either side
  )
  attention = module("longformer").LongformerSelfAttention(settings, layer_id=1)
  attention.out = torch.nn.Linear(D, D)

  def call(x, mask):
    # Rows of whole windows; 0 is a token, 1 a global one, -1 padding.
    room = -T % 4
    x = torch.nn.functional.pad(x, (0, 0, 0, room))
    kind = torch.full((B, T + room), -10_000.0)
    kind[:, :T] = 0
    kind[:, :N_GLOBAL] = 10_000.0
    y = attention(
      x,
      attention_mask=kind,
      is_index_masked=kind < 0,
      is_index_global_attn=kind > 0,
      is_global_attn=True,
    )[0]
    return attention.out(y[:, :T])

  return attention, call


def latent(ours):
  k, v = ours["mixer/k_up/kernel"], ours["mixer/v_up/kernel"]
  o = ours["mixer/o/kernel"]
  found = {
    "kv_a_proj_with_mqa.weight": ours["mixer/kv_down/kernel"].T,
    "kv_a_layernorm.weight": ours["mixer/kv_norm/scale"],
    "kv_b_proj.weight": flat(np.concatenate([k, v], axis=-1)),
    "o_proj.weight": o.reshape(-1, D).T,
  }
  if "mixer/q_down/kernel" not in ours:
    return found | {"q_proj.weight": flat(ours["mixer/q/kernel"])}
  return found | {
    "q_a_proj.weight": ours["mixer/q_down/kernel"].T,
    "q_a_layernorm.weight": ours["mixer/q_norm/scale"],
    "q_b_proj.weight": flat(ours["mixer/q/kernel"]),
  }


def t5(ours):
  bias = {"relative_attention_bias.weight": ours["positions/t5/bias"]}
  return usual(ours, names="qkvo") | bias


def build_t5(causal):
  def build(config):
    theirs = importlib.import_module("transformers.models.t5.configuration_t5")
    settings = theirs.T5Config(
      d_model=D,
      d_kv=config.head_dim,
      num_heads=config.n_heads,
      relative_attention_num_buckets=8,
      relative_attention_max_distance=11,
      dropout_rate=0.0,
      is_decoder=causal,
    )
    attention = module("t5").T5Attention(
      settings, has_relative_attention_bias=True, layer_idx=0
    )
    return attention, lambda x, mask: attention(x, mask=mask)[0]

  return build


def deberta(ours):
  found = {}
  names = {"q": "query_proj", "k": "key_proj", "v": "value_proj"}
  for name, theirs in names.items():
    found[f"{theirs}.weight"] = flat(ours[f"mixer/{name}/kernel"])
    found[f"{theirs}.bias"] = ours[f"mixer/{name}/bias"].reshape(-1)
  for name, theirs in (("q", "pos_query_proj"), ("k", "pos_key_proj")):
    place = f"mixer/position/{name}"
    found[f"{theirs}.weight"] = flat(ours[f"{place}/kernel"])
    found[f"{theirs}.bias"] = ours[f"{place}/bias"].reshape(-1)
  o = ours["mixer/o/kernel"]
  table = ours["positions/deberta/table"]
  return found | {
    "table": table,
    "out.weight": o.reshape(-1, D).T,
    "out.bias": ours["mixer/o/bias"],
  }


def build_deberta(buckets):
  def build(config):
    theirs = importlib.import_module(
      "transformers.models.deberta_v2.configuration_deberta_v2"
    )
    settings = theirs.DebertaV2Config(
      hidden_size=D,
      num_attention_heads=config.n_heads,
      relative_attention=True,
      position_buckets=buckets or -1,
      max_relative_positions=16,
      pos_att_type=["c2p", "p2c"],
      share_att_key=False,
      hidden_dropout_prob=0.0,
      attention_probs_dropout_prob=0.0,
    )
    attention = module("deberta_v2").DisentangledSelfAttention(settings)
    attention.out = torch.nn.Linear(D, D)
    size = 2 * (buckets or 16)
    attention.table = torch.nn.Parameter(torch.zeros(size, D))

    def call(x, mask):
      seen = mask == 0
      y = attention(x, seen, rel_embeddings=attention.table)[0]
      return attention.out(y)

    return attention, call

  return build


ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
MLA = {
  "kv_lora_rank": 12,
  "qk_rope_head_dim": 4,
  "qk_nope_head_dim": 6,
  "v_head_dim": 6,
  "num_key_value_heads": 4,
  "rope_parameters": ROPE,
}
MLA_OPTS = {
  "mla.kv_rank": 12,
  "mla.rope_dim": 4,
  "rope.pairing": "interleaved",
}

CASES = {
  "mistral": Case(
    "sliding_window",
    {"opts": {"sliding_window.window": 5}},
    usual,
    peer_of("mistral", sliding_window=5),
  ),
  "gemma2": Case(
    "attention",
    {"opts": {"attention.soft_cap": 0.7, "attention.scale": 7**-0.5}},
    usual,
    peer_of("gemma2", attn_logit_softcapping=0.7, query_pre_attn_scalar=7),
  ),
  "gpt_oss": Case(
    "attention",
    {"use_bias": True, "opts": {"attention.sinks": True}},
    gpt_oss,
    peer_of(
      "gpt_oss",
      attention_bias=True,
      layer_types=["full_attention"] * 2,
      num_hidden_layers=2,
      rope_parameters=ROPE,
    ),
  ),
  "qwen2": Case(
    "attention",
    {"opts": {"attention.qkv_bias": True}},
    usual,
    peer_of("qwen2", use_sliding_window=False),
  ),
  "qwen3": Case(
    "attention",
    {"opts": {"attention.qk_norm": "rms_norm"}},
    qwen3,
    peer_of("qwen3", use_sliding_window=False),
  ),
  "diffllama": Case(
    "differential",
    {},
    differential,
    peer_of("diffllama", attention_bias=False, rope_parameters=ROPE),
  ),
  "longformer": Case(
    "longformer",
    {
      "position": "none",
      "n_kv_heads": 4,
      "use_bias": True,
      "opts": {
        "longformer.window": 3,
        "longformer.n_global": N_GLOBAL,
        "longformer.own_projections": True,
      },
    },
    longformer,
    build_longformer,
    causal=False,
  ),
  "deepseek_v2": Case(
    "mla",
    {"norm_eps": 1e-6, "opts": MLA_OPTS},
    latent,
    peer_of("deepseek_v2", q_lora_rank=None, **MLA | {"head_dim": 4}),
  ),
  "deepseek_v3": Case(
    "mla",
    {"norm_eps": 1e-6, "opts": MLA_OPTS | {"mla.q_rank": 10}},
    latent,
    peer_of("deepseek_v3", q_lora_rank=10, **MLA | {"head_dim": 4}),
  ),
  **{
    f"t5{'' if causal else ' encoder'}": Case(
      "attention",
      {
        "position": "t5",
        "n_kv_heads": 4,
        "opts": {
          "t5.buckets": 8,
          "t5.max_distance": 11,
          "attention.scale": 1.0,
        },
      },
      t5,
      build_t5(causal),
      causal,
    )
    for causal in (True, False)
  },
  **{
    f"deberta{buckets or ''}": Case(
      "attention",
      {
        "position": "deberta",
        "n_kv_heads": 4,
        "use_bias": True,
        "opts": {"deberta.max_distance": 16, "deberta.buckets": buckets},
      },
      deberta,
      build_deberta(buckets),
      causal=False,
    )
    for buckets in (0, 6)
  },
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_transformers(name, model_config):
  check(CASES[name], model_config)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 8, 12, 40])
def test_alibi_has_the_slopes_of_bloom(n_heads):
  from ablax.models.positions.alibi import slopes

  mask = torch.ones(1, 2, dtype=torch.long)
  theirs = module("bloom").build_alibi_tensor(mask, n_heads, torch.float32)
  # Theirs is slope * position.
  np.testing.assert_allclose(slopes(n_heads), theirs[:, 0, 1], rtol=1e-6)
