"""The zoo: published numbers of parameters, and transformers' own functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.models import lm
from ablax.models.param import init_params
from ablax.models.zoo import ZOO, architecture
from ablax.train.config import load, resolve

PROVES = (
  "feature:zoo",
  "feature:parallel_norms",
  "feature:embed_norm",
  "feature:embed_scale",
  "feature:output_bias",
)

# Of the released weights. All but those of skywork_13b, which are its report's
# sizes added up, are what transformers' classes have of the same sizes; those
# of Pythia are in table 5 of its paper too.
COUNTS = {
  "gpt2_124m": 124_439_808,
  "gpt2_355m": 354_823_168,
  "gpt2_774m": 774_030_080,
  "gpt2_1_5b": 1_557_611_200,
  "opt_125m": 125_239_296,
  "opt_350m": 331_196_416,
  "opt_1_3b": 1_315_758_080,
  "opt_2_7b": 2_651_596_800,
  "opt_6_7b": 6_658_473_984,
  "opt_13b": 12_853_473_280,
  "opt_30b": 29_974_540_288,
  "opt_66b": 65_719_701_504,
  "bloom_560m": 559_214_592,
  "bloom_1b1": 1_065_314_304,
  "bloom_1b7": 1_722_408_960,
  "bloom_3b": 3_002_557_440,
  "bloom_7b1": 7_069_016_064,
  "bloom_176b": 176_247_271_424,
  "pythia_70m": 70_426_624,
  "pythia_160m": 162_322_944,
  "pythia_410m": 405_334_016,
  "pythia_1b": 1_011_781_632,
  "pythia_1_4b": 1_414_647_808,
  "pythia_2_8b": 2_775_208_960,
  "pythia_6_9b": 6_857_302_016,
  "pythia_12b": 11_846_072_320,
  "gpt_neox_20b": 20_554_567_680,
  "phi_1_5": 1_418_270_720,
  "phi_2": 2_779_683_840,
  "mpt_7b": 6_649_286_656,
  "mpt_30b": 29_957_200_896,
  "falcon_7b": 6_921_720_704,
  "falcon_40b": 41_303_293_952,
  "llama_7b": 6_738_415_616,
  "llama_13b": 13_015_864_320,
  "llama_33b": 32_528_943_616,
  "llama_65b": 65_285_660_672,
  "llama2_7b": 6_738_415_616,
  "llama2_13b": 13_015_864_320,
  "llama2_70b": 68_976_648_192,
  "llama3_8b": 8_030_261_248,
  "llama3_70b": 70_553_706_496,
  "llama3_1_8b": 8_030_261_248,
  "llama3_1_70b": 70_553_706_496,
  "llama3_1_405b": 405_853_388_800,
  "llama3_2_1b": 1_235_814_400,
  "llama3_2_3b": 3_212_749_824,
  "mistral_7b": 7_241_732_096,
  "mixtral_8x7b": 46_702_792_704,
  "mixtral_8x22b": 140_620_634_112,
  "yi_6b": 6_061_035_520,
  "yi_34b": 34_388_917_248,
  "baichuan_7b": 7_000_559_616,
  "baichuan_13b": 13_264_901_120,
  "chatglm2_6b": 6_243_584_000,
  "chatglm3_6b": 6_243_584_000,
  "internlm_7b": 7_321_948_160,
  "olmo2_7b": 7_298_617_344,
  "olmo2_13b": 13_716_198_400,
  "internlm2_7b": 7_737_708_544,
  "internlm2_20b": 19_861_149_696,
  "skywork_13b": 13_854_269_952,
  "qwen_7b": 7_721_324_544,
  "qwen1_5_0_5b": 463_987_712,
  "qwen1_5_1_8b": 1_836_828_672,
  "qwen1_5_7b": 7_721_324_544,
  "qwen1_5_72b": 72_287_920_128,
  "qwen1_5_moe_a2_7b": 14_315_784_192,
  "qwen2_0_5b": 494_032_768,
  "qwen2_1_5b": 1_543_714_304,
  "qwen2_7b": 7_615_616_512,
  "qwen2_72b": 72_706_203_648,
  "qwen2_57b_a14b": 57_408_658_944,
  "qwen3_0_6b": 596_049_920,
  "qwen3_1_7b": 1_720_574_976,
  "qwen3_4b": 4_022_468_096,
  "qwen3_8b": 8_190_735_360,
  "qwen3_14b": 14_768_307_200,
  "qwen3_32b": 32_762_123_264,
  "qwen3_30b_a3b": 30_532_122_624,
  "qwen3_235b_a22b": 235_093_634_560,
  "gemma_2b": 2_506_172_416,
  "gemma_7b": 8_537_680_896,
  "gemma2_2b": 2_614_341_888,
  "gemma2_9b": 9_241_705_984,
  "gemma2_27b": 27_227_128_320,
  "gemma3_1b": 999_885_952,
  "gemma3_4b": 3_880_263_168,
  "gemma3_12b": 11_766_034_176,
  "gemma3_27b": 27_009_346_304,
  "deepseek_v2": 235_741_434_880,
  "deepseek_v2_lite": 15_706_484_224,
  # With the 58 x 256 numbers that keep the load even.
  "deepseek_v3": 671_026_419_200,
  "mamba_130m": 129_135_360,
  "mamba_370m": 371_516_416,
  "mamba_790m": 793_204_224,
  "mamba_1_4b": 1_372_178_432,
  "mamba_2_8b": 2_768_345_600,
  "mamba2_130m": 128_989_632,
  "mamba2_370m": 368_346_624,
  "mamba2_780m": 780_161_280,
  "mamba2_1_3b": 1_343_757_312,
  "mamba2_2_7b": 2_702_599_680,
  "falcon_mamba_7b": 7_272_665_088,
  "jamba_v0_1": 51_570_323_328,
  "jamba_1_5_mini": 51_570_323_328,
  "jamba_1_5_large": 398_555_145_696,
  "recurrentgemma_2b": 2_682_862_080,
  "recurrentgemma_9b": 8_579_977_216,
  "qwen3_next_80b_a3b": 79_674_391_296,
  "samba_421m": 421_793_280,
  "samba_1_3b": 1_330_207_488,
  "zamba_7b": 7_232_490_496,
  "falcon_h1_0_5b": 521_411_104,
  "falcon_h1_1_5b": 1_554_863_488,
  "falcon_h1_3b": 3_149_392_384,
  "falcon_h1_7b": 7_585_654_880,
  "falcon_h1_34b": 33_642_516_224,
  # What the papers' formulas give, and the tables of RWKV-4's and RWKV-7's.
  "retnet_1_3b": 1_311_086_592,
  "retnet_2_7b": 2_645_573_120,
  "retnet_6_7b": 6_648_836_096,
  "rwkv4_169m": 169_342_464,
  "rwkv4_430m": 430_397_440,
  "rwkv4_1_5b": 1_515_106_304,
  "rwkv4_3b": 2_984_627_200,
  "rwkv4_7b": 7_392_649_216,
  "rwkv4_14b": 14_148_597_760,
  "rwkv5_0_4b": 461_721_600,
  "rwkv5_1_5b": 1_577_754_624,
  "rwkv5_3b": 3_062_999_040,
  "rwkv5_7b": 7_518_044_160,
  "rwkv6_1_6b": 1_599_873_024,
  "rwkv6_3b": 3_099_863_040,
  "rwkv7_0_1b": 191_034_624,
  "rwkv7_0_4b": 450_767_872,
  "rwkv7_1_5b": 1_527_404_544,
  "rwkv7_2_9b": 2_947_735_040,
}


def model_of(name, **overrides):
  """The resolved model of an entry."""
  return resolve(base.get_config(), {**ZOO[name], **overrides}).model


def check_count(name):
  specs = jax.tree.leaves(lm.param_specs(model_of(name)))
  assert sum(spec.size for spec in specs) == COUNTS[name]


# One of each family, and all sizes of the others when there is time.
QUICK = (
  *("gpt2_124m", "opt_13b", "bloom_176b", "pythia_160m", "falcon_40b"),
  *("llama_65b", "llama2_70b", "llama3_1_405b", "mistral_7b", "yi_34b"),
  *("mixtral_8x7b", "baichuan_13b", "chatglm2_6b", "internlm2_20b"),
  *("skywork_13b", "qwen_7b", "qwen2_57b_a14b", "qwen3_235b_a22b"),
  *("internlm_7b", "olmo2_13b", "mpt_30b", "phi_2"),
  *("gemma_7b", "gemma2_27b", "gemma3_12b", "deepseek_v2", "deepseek_v3"),
  *("mamba_2_8b", "mamba2_2_7b", "falcon_mamba_7b", "jamba_1_5_large"),
  *("recurrentgemma_9b", "qwen3_next_80b_a3b", "falcon_h1_0_5b"),
  *("falcon_h1_34b", "zamba_7b", "samba_1_3b", "retnet_6_7b"),
  *("rwkv4_14b", "rwkv6_3b", "rwkv7_2_9b"),
)


@pytest.mark.parametrize("name", QUICK)
def test_an_architecture_has_its_published_number_of_parameters(name):
  check_count(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(COUNTS) - set(QUICK)))
def test_each_size_has_its_published_number_of_parameters(name):
  check_count(name)


def test_every_architecture_has_a_number():
  assert COUNTS.keys() == ZOO.keys()


# Of transformers: the class, and what its config has not by default. Where
# that is nothing, transformers itself says what the shape of the release is.
PEERS = {
  "gpt2_124m": ("GPT2", {}),
  "opt_125m": ("OPT", {}),
  "opt_350m": (
    "OPT",
    {
      "hidden_size": 1024,
      "num_hidden_layers": 24,
      "num_attention_heads": 16,
      "ffn_dim": 4096,
      "word_embed_proj_dim": 512,
      "do_layer_norm_before": False,
    },
  ),
  "bloom_7b1": ("Bloom", {"hidden_size": 4096, "n_layer": 30, "n_head": 32}),
  "gpt_neox_20b": ("GPTNeoX", {}),
  "phi_1_5": ("Phi", {}),
  "falcon_7b": ("Falcon", {}),
  "falcon_40b": (
    "Falcon",
    {
      "hidden_size": 8192,
      "num_hidden_layers": 60,
      "num_attention_heads": 128,
      "num_kv_heads": 8,
      "new_decoder_architecture": True,
    },
  ),
  "llama_7b": ("Llama", {}),
  "olmo2_7b": ("Olmo2", {"vocab_size": 100352}),
  "internlm_7b": ("Llama", {"vocab_size": 103168, "attention_bias": True}),
  "mpt_7b": (
    "Mpt",
    {"d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432},
  ),
  "mistral_7b": ("Mistral", {}),
  "mixtral_8x7b": ("Mixtral", {}),
  "chatglm2_6b": (
    "Glm",
    {"num_hidden_layers": 28, "vocab_size": 65024, "pad_token_id": 0},
  ),
  "qwen1_5_7b": ("Qwen2", {"intermediate_size": 11008}),
  "qwen1_5_moe_a2_7b": ("Qwen2Moe", {}),
  "qwen3_8b": (
    "Qwen3",
    {
      "intermediate_size": 12288,
      "num_hidden_layers": 36,
      "num_key_value_heads": 8,
    },
  ),
  "qwen3_30b_a3b": ("Qwen3Moe", {"num_hidden_layers": 48, "head_dim": 128}),
  "gemma_7b": ("Gemma", {}),
  "gemma2_2b": ("Gemma2", {}),
  "gemma3_4b": (
    "Gemma3",
    {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
  ),
  "deepseek_v2_lite": (
    "DeepseekV2",
    {
      "hidden_size": 2048,
      "intermediate_size": 10944,
      "num_hidden_layers": 27,
      "num_attention_heads": 16,
      "moe_intermediate_size": 1408,
      "num_experts_per_tok": 6,
      "first_k_dense_replace": 1,
      "q_lora_rank": None,
    },
  ),
  "deepseek_v3": ("DeepseekV3", {}),
}


def peer(family, **settings):
  """A language model of transformers with these settings."""
  import transformers

  config = f"{family}{'Text' if family == 'Gemma3' else ''}Config"
  config = getattr(transformers, config)(**settings)
  kind = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
  return getattr(transformers, f"{family}{kind}")(config)


@pytest.mark.long  # transformers' imports
@pytest.mark.parametrize("name", PEERS)
def test_transformers_counts_as_many_parameters(name):
  import torch

  family, settings = PEERS[name]
  with torch.device("meta"):
    model = peer(family, **settings)
  model.tie_weights()
  count = sum(p.numel() for p in model.parameters())
  # DeepSeek's weights have it as a parameter, and transformers as a buffer.
  count += sum(
    b.numel() for key, b in model.named_buffers() if "correction_bias" in key
  )
  assert count == COUNTS[name]


D, N, K, H, F, V, T = 32, 4, 2, 8, 48, 61, 13
SMALL = {
  "model.d_model": D,
  "model.n_heads": N,
  "model.vocab_size": V,
  "model.max_len": 64,
  "data.seq_len": T,
}
GROUPED = {"model.n_kv_heads": K, "model.ff_dim": F, "model.head_dim": H}
THEIRS = {"hidden_size": D, "num_attention_heads": N, "vocab_size": V}
THEIRS |= {"pad_token_id": 0, "attn_implementation": "eager"}
THEIRS_GROUPED = {"num_key_value_heads": K, "intermediate_size": F}
THEIRS_GROUPED |= {"head_dim": H}


def blocks(config, params):
  """Each layer's parameters, in the order of the depth."""
  for name, layers, repeats in config.groups:
    for i in range(repeats):
      for j in range(len(layers)):
        yield jax.tree.map(lambda a, i=i: a[i], params[name][str(j)])


def linear(of):
  """A projection as a torch Linear's [out, in], and its bias."""
  kernel = of["kernel"]
  out_of_heads = kernel.ndim == 3 and kernel.shape[-1] == D
  inputs = N * H if out_of_heads else len(kernel)
  yield "weight", kernel.reshape(inputs, -1).T
  if "bias" in of:
    yield "bias", of["bias"].reshape(-1)


def fused(mixer, kind):
  """Queries, keys and values as one: "in turn", or "by head" of keys."""
  q, k, v = (mixer[name] for name in "qkv")
  for leaf in q:  # kernel, and bias
    a, b, c = (np.moveaxis(of[leaf], -2, 0) for of in (q, k, v))  # [heads, ...]
    if kind == "in turn":
      rows = np.concatenate([a, b, c])
    else:
      a = a.reshape(len(b), -1, *a.shape[1:])
      rows = np.concatenate([a, b[:, None], c[:, None]], axis=1)
      rows = rows.reshape(-1, *rows.shape[2:])
    rows = np.moveaxis(rows, -1, 1)  # [heads, H, in]
    yield leaf.replace("kernel", "weight"), rows.reshape(-1, *rows.shape[2:])


def norm(of, offset=0.0):
  yield "weight", of["scale"] - offset
  if "bias" in of:
    yield "bias", of["bias"]


def put(theirs, place, tensors):
  theirs |= {f"{place}.{name}": value for name, value in tensors}


def by_llama(config, params, offset=0.0):
  """Names of Llama, Mistral, Qwen and Gemma, whose norms add 1."""
  theirs = {"model.embed_tokens.weight": params["embedding"]}
  put(theirs, "model.norm", norm(params["final_norm"], offset))
  if not config.tie_embeddings:
    theirs["lm_head.weight"] = params["unembedding"]
  norms = {"mixer_norm": "input_layernorm"}
  if config.residual == "after":
    norms["mixer_norm"] = "post_attention_layernorm"
  norms["ffn_norm"] = (
    "post_feedforward_layernorm"
    if config.residual == "after"
    else "post_attention_layernorm"
  )
  if config.residual == "sandwich":
    norms["mixer_out_norm"] = "post_attention_layernorm"
    norms["ffn_norm"] = "pre_feedforward_layernorm"
    norms["ffn_out_norm"] = "post_feedforward_layernorm"
  for i, block in enumerate(blocks(config, params)):
    at = f"model.layers.{i}"
    for ours, name in norms.items():
      put(theirs, f"{at}.{name}", norm(block[ours], offset))
    for name in "qkvo":
      put(theirs, f"{at}.self_attn.{name}_proj", linear(block["mixer"][name]))
    for name in ("q_norm", "k_norm"):
      if name in block["mixer"]:
        of = norm(block["mixer"][name], offset)
        put(theirs, f"{at}.self_attn.{name}", of)
    for name in ("gate", "up", "down"):
      put(theirs, f"{at}.mlp.{name}_proj", linear(block["ffn"][name]))
  return theirs


by_gemma = functools.partial(by_llama, offset=1.0)


def by_glm(config, params):
  theirs = by_llama(config, params)
  for i in range(config.n_layers):
    both = (
      f"model.layers.{i}.mlp.{name}_proj.weight" for name in ("gate", "up")
    )
    both = np.concatenate([theirs.pop(name) for name in both])
    theirs[f"model.layers.{i}.mlp.gate_up_proj.weight"] = both
  return theirs


def by_names(top, layers, names, one_matrix, config, params):
  """Names of the line of GPT, where q, k and v are one matrix.

  Args:
    top, names: ours -> theirs; around the layers, and in each.
    one_matrix: its name, and in which order it has the three.
  """
  theirs, (qkv, order) = {}, one_matrix
  if not config.tie_embeddings:
    theirs["lm_head.weight"] = params["unembedding"]
  for ours, name in top.items():
    of = params[ours]
    put(theirs, name, norm(of) if isinstance(of, dict) else [("weight", of)])
  for i, block in enumerate(blocks(config, params)):
    for ours, name in names.items():
      part, _, matrix = ours.partition("/")
      of = block[part][matrix] if matrix else block[part]
      tensors = linear(of) if matrix else norm(of)
      put(theirs, f"{layers}.{i}.{name}", tensors)
    put(theirs, f"{layers}.{i}.{qkv}", fused(block["mixer"], order))
  return theirs


OF_BLOOM = {
  "mixer/o": "self_attention.dense",
  "ffn/up": "mlp.dense_h_to_4h",
  "ffn/down": "mlp.dense_4h_to_h",
}
BLOOM_NORMS = {
  "mixer_norm": "input_layernorm",
  "ffn_norm": "post_attention_layernorm",
}
BY_HEAD = ("self_attention.query_key_value", "by head")
BLOOM_TOP = {
  "embedding": "transformer.word_embeddings",
  "final_norm": "transformer.ln_f",
}
by_bloom = functools.partial(
  by_names,
  BLOOM_TOP | {"embed_norm": "transformer.word_embeddings_layernorm"},
  "transformer.h",
  OF_BLOOM | BLOOM_NORMS,
  BY_HEAD,
)
by_falcon = functools.partial(
  by_names,
  BLOOM_TOP,
  "transformer.h",
  OF_BLOOM | {"norm": "input_layernorm"},
  ("self_attention.query_key_value", "in turn"),
)
by_falcon_40b = functools.partial(
  by_names,
  BLOOM_TOP,
  "transformer.h",
  OF_BLOOM | {"mixer_norm": "ln_attn", "ffn_norm": "ln_mlp"},
  BY_HEAD,
)
by_mpt = functools.partial(
  by_names,
  {"embedding": "transformer.wte", "final_norm": "transformer.norm_f"},
  "transformer.blocks",
  {
    "mixer_norm": "norm_1",
    "ffn_norm": "norm_2",
    "mixer/o": "attn.out_proj",
    "ffn/up": "ffn.up_proj",
    "ffn/down": "ffn.down_proj",
  },
  ("attn.Wqkv", "in turn"),
)
by_neox = functools.partial(
  by_names,
  {"embedding": "gpt_neox.embed_in", "final_norm": "gpt_neox.final_layer_norm"},
  "gpt_neox.layers",
  OF_BLOOM | BLOOM_NORMS | {"mixer/o": "attention.dense"},
  ("attention.query_key_value", "by head"),
)


def by_gpt2(config, params):
  theirs = by_names(
    {"embedding": "transformer.wte", "final_norm": "transformer.ln_f"},
    "transformer.h",
    {
      "mixer_norm": "ln_1",
      "ffn_norm": "ln_2",
      "mixer/o": "attn.c_proj",
      "ffn/up": "mlp.c_fc",
      "ffn/down": "mlp.c_proj",
    },
    ("attn.c_attn", "in turn"),
    config,
    params,
  )
  # Its matrices are [in, out].
  theirs = {k: v.T if ".c_" in k else v for k, v in theirs.items()}
  return theirs | {"transformer.wpe.weight": params["position"]["table"]}


def by_opt(config, params):
  theirs, at = {}, "model.decoder"
  theirs[f"{at}.embed_tokens.weight"] = params["embedding"]
  table = np.roll(params["position"]["table"], 2, axis=0)
  theirs[f"{at}.embed_positions.weight"] = table
  if "final_norm" in params:
    put(theirs, f"{at}.final_layer_norm", norm(params["final_norm"]))
  if "embed_up" in params:
    put(theirs, f"{at}.project_in", linear(params["embed_up"]))
    put(theirs, f"{at}.project_out", linear(params["embed_down"]))
  names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
  for i, block in enumerate(blocks(config, params)):
    at = f"model.decoder.layers.{i}"
    for name, of in (("up", "fc1"), ("down", "fc2")):
      put(theirs, f"{at}.{of}", linear(block["ffn"][name]))
    for name, of in names.items():
      put(theirs, f"{at}.self_attn.{of}", linear(block["mixer"][name]))
    put(theirs, f"{at}.self_attn_layer_norm", norm(block["mixer_norm"]))
    put(theirs, f"{at}.final_layer_norm", norm(block["ffn_norm"]))
  return theirs


def by_phi(config, params):
  theirs = {"model.embed_tokens.weight": params["embedding"]}
  theirs["lm_head.weight"] = params["unembedding"]
  theirs["lm_head.bias"] = params["output_bias"]
  put(theirs, "model.final_layernorm", norm(params["final_norm"]))
  names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "dense"}
  for i, block in enumerate(blocks(config, params)):
    at = f"model.layers.{i}"
    put(theirs, f"{at}.input_layernorm", norm(block["norm"]))
    for name, of in names.items():
      put(theirs, f"{at}.self_attn.{of}", linear(block["mixer"][name]))
    for name, of in (("up", "fc1"), ("down", "fc2")):
      put(theirs, f"{at}.mlp.{of}", linear(block["ffn"][name]))
  return theirs


FUNCTIONS_QUICK = ("bloom_560m", "pythia_160m", "gemma_2b")

# Entry -> transformers' family, names, layers, what is small here, and there.
GPT_SMALL = {"model.ff_dim": 4 * D}
OPT_THERE = {
  "ffn_dim": 4 * D,
  "word_embed_proj_dim": D,
  "max_position_embeddings": 62,
  "pad_token_id": 1,
}
FUNCTIONS = {
  "gpt2_124m": ("GPT2", by_gpt2, 3, GPT_SMALL, {"n_positions": 64}),
  "opt_125m": (
    *("OPT", by_opt, 3, GPT_SMALL),
    OPT_THERE,
  ),
  "opt_350m": (
    *("OPT", by_opt, 3, GPT_SMALL | {"model.embed_rank": 20}),
    OPT_THERE | {"word_embed_proj_dim": 20, "do_layer_norm_before": False},
  ),
  "bloom_560m": ("Bloom", by_bloom, 3, GPT_SMALL, {}),
  "mpt_7b": (
    *("Mpt", by_mpt, 3, GPT_SMALL),
    {"d_model": D, "n_heads": N, "n_layers": 3, "max_seq_len": 64},
  ),
  "pythia_160m": (
    *("GPTNeoX", by_neox, 3, GPT_SMALL),
    {"intermediate_size": 4 * D},
  ),
  "phi_1_5": (
    *("Phi", by_phi, 3, GPT_SMALL),
    {"intermediate_size": 4 * D},
  ),
  "falcon_7b": ("Falcon", by_falcon, 3, GPT_SMALL, {}),
  "falcon_40b": (
    *("Falcon", by_falcon_40b, 3, GPT_SMALL | {"model.n_kv_heads": K}),
    {"num_kv_heads": K, "new_decoder_architecture": True},
  ),
  "llama3_1_8b": (
    *("Llama", by_llama, 3, GROUPED | {"model.max_len": 131072}),
    {
      "rms_norm_eps": 1e-5,
      "max_position_embeddings": 131072,
      "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
      },
    },
  ),
  "mistral_7b": (
    *("Mistral", by_llama, 3),
    GROUPED | {"model.opts.sliding_window.window": 5},
    {"sliding_window": 5, "rms_norm_eps": 1e-5},
  ),
  "internlm_7b": (
    *("Llama", by_llama, 3, GROUPED),
    {"attention_bias": True},
  ),
  "olmo2_7b": (
    *("Olmo2", by_llama, 3, GROUPED),
    {
      "rms_norm_eps": 1e-6,
      "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    },
  ),
  "chatglm2_6b": ("Glm", by_glm, 3, GROUPED, {"rms_norm_eps": 1e-5}),
  "qwen2_0_5b": (
    *("Qwen2", by_llama, 3, GROUPED),
    {
      "tie_word_embeddings": True,
      "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
  ),
  "qwen3_8b": (
    *("Qwen3", by_llama, 3, GROUPED),
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
  ),
  "gemma_2b": (
    *("Gemma", by_gemma, 3),
    GROUPED | {"model.embed_scale": D**0.5},
    {},
  ),
  "gemma2_2b": (
    *("Gemma2", by_gemma, 3),
    GROUPED
    | {"model.embed_scale": D**0.5, "model.opts.sliding_window.window": 5},
    {"sliding_window": 5},
  ),
  "gemma3_4b": (
    *("Gemma3", by_gemma, 7),
    GROUPED
    | {"model.embed_scale": D**0.5, "model.opts.sliding_window.window": 5},
    {
      "sliding_window": 5,
      "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {
          "rope_type": "linear",
          "rope_theta": 1e6,
          "factor": 8.0,
        },
      },
    },
  ),
}


# What no other test compares: BLOOM's norm of the embeddings, GPT-NeoX's two
# norms, Gemma's scale. The rest when there is time.
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


def check_logits(name, family, names, L, ours, theirs):
  """Compares a small model of an entry's with one of transformers' class.

  Args:
    names: from a config and parameters to the peer's tensors by their names.
    L: layers.
    ours, theirs: what else is small here, and there.
  """
  import torch

  config = model_of(name, **SMALL | {"model.n_layers": L} | ours)
  params = init_params(lm.param_specs(config), jax.random.key(0))
  # Nothing stays at 0 or 1: a wrong place would not show.
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  params = tree.unflatten(
    a + 0.2 * jax.random.normal(key, a.shape)
    for a, key in zip(leaves, keys, strict=True)
  )
  grouped = THEIRS_GROUPED if "model.head_dim" in ours else {}
  given = THEIRS | grouped | {"num_hidden_layers": L} | theirs
  model = peer(family, **given).eval()
  state = names(config, jax.tree.map(np.asarray, params))
  state = {key: torch.tensor(value) for key, value in state.items()}
  missing = model.load_state_dict(state, strict=False)
  assert not missing.unexpected_keys
  tied = ["lm_head.weight"] if config.tie_embeddings else []
  assert missing.missing_keys == tied
  model.tie_weights()

  tokens_BT = np.random.default_rng(0).integers(2, V, (2, T))
  got = jax.jit(lm.apply, static_argnums=0)(
    config, params, jnp.asarray(tokens_BT)
  ).logits()
  with torch.no_grad():
    want = model(
      torch.tensor(tokens_BT),
      attention_mask=torch.ones(2, T, dtype=torch.long),
    ).logits.numpy()
  # fp32 has 6e-8, and some layers of sums in another order lose 100 of it.
  assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


def test_the_config_file_takes_a_name():
  got = load("configs/zoo.py:llama3_2_1b", {"model.compute_dtype": "float32"})
  want = model_of("llama3_2_1b", **{"model.remat": "full"})
  assert got.model == want
  assert got.model.opts["llama3"].factor == 32


def test_an_entry_is_the_same_on_top_of_another_config():
  other = {
    "model.residual": "post",
    "model.use_bias": "True",
    "model.n_kv_heads": "1",
    "model.first": "attention/mlp",
  }
  one = resolve(base.get_config(), {**other, **ZOO["gemma2_2b"]}).model
  assert one == model_of("gemma2_2b")


def test_an_unknown_name_is_refused_with_the_nearest():
  for call in (architecture, lambda name: load(f"configs/zoo.py:{name}")):
    with pytest.raises(UserError) as caught:
      call("mistral_8b")
    assert str(caught.value) == (
      "'mistral_8b' is no architecture of models/zoo; did you mean"
      " 'mistral_7b'?"
    )


@pytest.mark.parametrize(
  ("path", "said"),
  [
    ("FILE", "'name'; add one, as in"),
    ("configs/lm/tiny.py:x", "drop ':x'"),
    ("configs/zo.py:gpt2_124m", "did you mean 'configs/zoo.py'?"),
  ],
)
def test_an_argument_that_does_not_fit_is_refused(path, said, tmp_path):
  file = tmp_path / "needs.py"
  file.write_text("def get_config(name):\n  return name\n")
  with pytest.raises(UserError) as caught:
    load(path.replace("FILE", str(file)))
  assert said in str(caught.value)


@pytest.mark.parametrize(
  ("overrides", "said"),
  [
    ({"embed_scale": 0.0}, "model.embed_scale=0.0 must be positive"),
    ({"embed_norm": True, "norm": "none"}, "model.embed_norm=True has no norm"),
  ],
)
def test_what_embeddings_can_not_be_is_refused(model_config, overrides, said):
  with pytest.raises(UserError) as caught:
    model_config(**overrides)
  assert said in str(caught.value)


@pytest.mark.slow  # a 7B model is traced, forward and backward
def test_a_plan_is_made_without_its_memory(capsys):
  from ablax.train.__main__ import main

  assert main(["--config=configs/zoo.py:mistral_7b", "--dry-run"]) == 0
  assert "7.24 G" in capsys.readouterr().out
