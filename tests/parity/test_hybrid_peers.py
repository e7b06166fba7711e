"""What hybrids of attention and recurrences have is transformers' modules'.

The norms within Mamba and its heads, fewer key heads than value heads, gates of
attention, attention beside Mamba-2, and a block that layers share.
"""

import functools
import importlib

import numpy as np
import pytest
import torch
from peers import B, Case, D, T, as_torch, check, flat, module, of_paths
from test_attention_peers import peer_of, usual
from test_recurrence_peers import BY_HEAD, OUT, N, mamba, mamba2

from ablax.errors import UserError

PROVES = (
  "mixer:parallel_heads",
  "mixer:shared_block",
  "feature:output_gate",
)
AGAINST = {
  "mixer:parallel_heads": "transformers FalconH1DecoderLayer",
  "mixer:shared_block": "transformers ZambaHybridLayer",
  "feature:output_gate": "transformers Qwen3NextAttention",
}


def settings_of(name, **given):
  """A config of transformers, by the name of its folder."""
  theirs = importlib.import_module(
    f"transformers.models.{name}.configuration_{name}"
  )
  kind = f"{name.replace('_', '')}config"
  kind = next(k for k in vars(theirs) if k.lower() == kind)
  return getattr(theirs, kind)(hidden_size=D, num_hidden_layers=4, **given)


def build_jamba(config):
  settings = settings_of(
    "jamba", mamba_d_state=7, mamba_dt_rank=3, rms_norm_eps=config.norm_eps
  )
  peer = module("jamba").JambaMambaMixer(settings, layer_idx=1)
  return peer, lambda x, mask: peer(x)


def build_falcon_mamba(config):
  settings = settings_of(
    "falcon_mamba",
    state_size=7,
    time_step_rank=3,
    mixer_rms_eps=1e-2,  # not as model.norm_eps is
  )
  peer = module("falcon_mamba").FalconMambaMixer(
    settings, layer_idx=1, initialize_mixer_weights=False
  )
  return peer, lambda x, mask: peer(x)


def jamba(ours):
  norms = {"dt_down": "dt", "b": "b", "c": "c"}
  return mamba(ours) | {
    f"{theirs}_layernorm.weight": ours[f"mixer/{name}_norm/scale"]
    for name, theirs in norms.items()
  }


def build_grouped(config):
  del config
  settings = settings_of(
    "qwen3_next",
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=5,
    linear_value_head_dim=4,
    rms_norm_eps=1e-5,
  )
  peer = module("qwen3_next").Qwen3NextGatedDeltaNet(settings, layer_idx=0)
  return peer, lambda x, mask: peer(x)


def grouped(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}

  def by_group(name):
    """[D, 2, what the heads of a group have]."""
    return of[f"{name}/kernel"].reshape(D, 2, -1)

  def of_names(*names):
    return flat(np.concatenate([by_group(name) for name in names], axis=-1))

  convs = [of[f"conv_{name}/kernel"].reshape(4, -1).T for name in "qkv"]
  return {
    "in_proj_qkvz.weight": of_names("q", "k", "v", "gate"),
    "in_proj_ba.weight": of_names("beta", "decay/step"),
    "conv1d.weight": np.concatenate(convs)[:, None],
    "dt_bias": of["decay/bias"],
    "A_log": of["decay/log_rate"],
    "norm.weight": of["norm/scale"],
    "out_proj.weight": of["o/kernel"].reshape(-1, D).T,
  }


class FromOne(torch.nn.Module):
  """A norm's scale as theirs, who add 1 to it."""

  def forward(self, scale):
    return scale - 1


def build_gated(config):
  peer, call = peer_of(
    "qwen3_next",
    rope_parameters={
      "rope_type": "default",
      "rope_theta": 10_000.0,
      "partial_rotary_factor": 0.25,
    },
  )(config)
  for norm in (peer.q_norm, peer.k_norm):
    torch.nn.utils.parametrize.register_parametrization(
      norm, "weight", FromOne()
    )
  return peer, call


def gated(ours):
  both = [ours[f"mixer/{name}/kernel"] for name in ("q", "output_gate/gate")]
  return usual(ours) | {
    "q_proj.weight": flat(np.concatenate(both, axis=-1)),
    **{
      f"{name}_norm.parametrizations.weight.original": ours[
        f"mixer/{name}_norm/scale"
      ]
      for name in "qk"
    },
  }


def gated_by_head(m, x):
  q, k, v = (m.by_head(x, name) for name in "qkv")
  o = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
  gate = torch.einsum("btd,dnh->bnth", x, m.mixer_output_gate_gate_kernel)
  return m.out(torch.sigmoid(gate) * o)


FALCON_H1 = {
  "attention_in_multiplier": 0.9,
  "attention_out_multiplier": 0.7,
  "ssm_in_multiplier": 1.3,
  "ssm_out_multiplier": 0.6,
  "ssm_multipliers": [0.8, 1.2, 0.9, 1.1, 0.7],
  "key_multiplier": 0.5,
}


def build_falcon_h1(config, *, norm, groups):
  settings = settings_of(
    "falcon_h1",
    num_attention_heads=config.n_heads,
    num_key_value_heads=config.n_kv_heads,
    mamba_d_ssm=36,
    mamba_n_heads=6,
    mamba_d_head=6,
    mamba_d_state=5,
    mamba_n_groups=groups,
    mamba_rms_norm=norm,
    mamba_norm_before_gate=False,
    rms_norm_eps=config.norm_eps,
    attn_implementation="eager",
    rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    **FALCON_H1,
  )
  found = module("falcon_h1")
  peer = found.FalconH1DecoderLayer(settings, layer_idx=1)
  peer.mamba.register_buffer(
    "mup_vector", found.compute_mup_vector(settings), persistent=False
  )
  # Without its norms, and without its ffn.
  peer.input_layernorm = peer.pre_ff_layernorm = torch.nn.Identity()
  peer.feed_forward = torch.nn.Module()
  peer.feed_forward.forward = torch.zeros_like
  rotary = found.FalconH1RotaryEmbedding(settings)

  def call(x, mask):
    at = rotary(x, torch.arange(T)[None].expand(B, T))
    y = peer(x, attention_mask=mask, position_embeddings=at)[0]
    return y - x

  return peer, call


def falcon_h1(ours):
  found = {}
  for branch in ("attention", "mamba2"):
    of = {
      key.replace(f"/{branch}/", "/"): value
      for key, value in ours.items()
      if f"/{branch}/" in key
    }
    if branch == "attention":
      found |= usual(of, "self_attn.")
    else:
      found |= {f"mamba.{k}": v for k, v in mamba2(of).items()}
  return found


def build_zamba(config):
  settings = settings_of(
    "zamba",
    num_attention_heads=config.n_heads,
    num_key_value_heads=config.n_kv_heads,
    intermediate_size=config.ff_dim,
    n_mamba_heads=3,
    mamba_d_state=7,
    mamba_dt_rank=3,
    rms_norm_eps=config.norm_eps,
    attn_implementation="eager",
  )
  found = module("zamba")
  peer = found.ZambaHybridLayer(
    found.ZambaAttentionDecoderLayer(settings, 2),
    torch.nn.Linear(D, D, bias=False),
    found.ZambaMambaDecoderLayer(settings, 2),
  )
  # Alone, a layer finds its own input in the place of the embeddings.
  return peer, lambda x, mask: peer(x, x, 2, causal_mask=mask) - x


def zamba_mamba(ours):
  theirs = mamba(ours)
  heads = {"x_proj.weight": [], "dt_proj.weight": []}
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  for head in range(3):
    small = [of[f"{name}/kernel"][head].T for name in ("dt_down", "b", "c")]
    heads["x_proj.weight"].append(np.concatenate(small))
    heads["dt_proj.weight"].append(of["dt_up/kernel"][head].T)
  for name, values in heads.items():
    del theirs[name]
    theirs[name.replace(".", "_")] = np.stack(values)
  theirs["dt_proj_bias"] = theirs.pop("dt_proj.bias").reshape(3, -1)
  theirs["D"] = theirs["D"].reshape(3, -1)
  theirs["A_log"] = theirs["A_log"].reshape(3, -1, 7)
  # A channel's input, then its gate.
  into, gate = np.split(theirs["in_proj.weight"], 2)
  theirs["in_proj.weight"] = np.stack([into, gate], axis=1).reshape(-1, D)
  return theirs


def zamba(ours):
  shared = {
    key.removeprefix("tied/shared_block/"): value
    for key, value in ours.items()
    if key.startswith("tied/")
  }
  block = {
    key.replace("attention/", "mixer/"): value for key, value in shared.items()
  }
  own = {
    key.removeprefix("mixer/"): value
    for key, value in ours.items()
    if key.startswith("mixer/mixer/")
  }
  return {
    **usual(block, "shared_transf.self_attn."),
    **{
      f"shared_transf.feed_forward.{name}_proj.weight": shared[
        f"ffn/{name}/kernel"
      ].T
      for name in ("gate", "up", "down")
    },
    "shared_transf.input_layernorm.weight": shared["norm/scale"],
    "shared_transf.pre_ff_layernorm.weight": shared["ffn_norm/scale"],
    "linear.weight": ours["mixer/down/kernel"].T,
    "mamba_decoder.input_layernorm.weight": ours["mixer/norm/scale"],
    **{f"mamba_decoder.mamba.{k}": v for k, v in zamba_mamba(own).items()},
  }


SMALL_MAMBA = {"mamba.state": 7, "mamba.dt_rank": 3}
CASES = {
  "mamba, norms with scales": Case(
    "mamba",
    {"opts": SMALL_MAMBA | {"mamba.inner_norm": "scaled"}},
    jamba,
    build_jamba,
  ),
  "mamba, norms without": Case(
    "mamba",
    {
      "opts": SMALL_MAMBA
      | {"mamba.inner_norm": "plain", "mamba.inner_norm_eps": 1e-2}
    },
    mamba,
    build_falcon_mamba,
  ),
  "gated_delta_net, three value heads to a key head": Case(
    "gated_delta_net",
    {
      "opts": {
        "gated_delta_net.n_heads": 6,
        "gated_delta_net.n_key_heads": 2,
        "gated_delta_net.key_dim": 5,
        "gated_delta_net.value_dim": 4,
      }
    },
    grouped,
    build_grouped,
  ),
  "attention, a gate of channels": Case(
    "attention",
    {
      "head_dim": 8,
      "opts": {
        "attention.gate": "channel",
        "attention.qk_norm": "rms_norm",
        "rope.fraction": 0.25,
      },
    },
    gated,
    build_gated,
  ),
  "attention, a gate of heads": Case(
    "attention",
    {
      "n_kv_heads": N,
      "head_dim": 6,
      "position": "none",
      "opts": {"attention.gate": "head"},
    },
    as_torch,
    of_paths(
      gated_by_head,
      **BY_HEAD | OUT | {"v_kernel": (D, N, 6), "o_kernel": (N, 6, D)},
      output_gate_gate_kernel=(D, N, 1),
    ),
  ),
  **{
    f"parallel_heads, {'a' if norm else 'no'} norm": Case(
      "parallel_heads",
      {
        "opts": {
          "parallel_heads.multipliers_in": (0.9, 1.3),
          "parallel_heads.multipliers_out": (0.7, 0.6),
          # Of keys, and so of scores.
          "attention.scale": 0.5 * 6**-0.5,
          "mamba2.channels": 36,
          "mamba2.head_dim": 6,
          "mamba2.state": 5,
          "mamba2.groups": groups,
          "mamba2.norm": norm,
          "mamba2.multipliers": tuple(FALCON_H1["ssm_multipliers"]),
        }
      },
      falcon_h1,
      functools.partial(build_falcon_h1, norm=norm, groups=groups),
    )
    for norm, groups in ((False, 1), (True, 2))
  },
  "shared_block": Case(
    "shared_block",
    {
      "head_dim": 2 * D // N,
      "position": "none",
      "opts": SMALL_MAMBA
      | {
        "mamba.n_heads": 3,
        "attention.scale": (D // N) ** -0.5,
        "glu.activation": "gelu",
      },
    },
    zamba,
    build_zamba,
    double=True,
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_peer(name, model_config):
  check(CASES[name], model_config)


@pytest.mark.parametrize(
  ("mixer", "opts", "said"),
  [
    ("mamba", {"mamba.inner_norm": "rms"}, "not one of none, scaled, plain"),
    ("mamba", {"mamba.inner_norm_eps": -1.0}, "inner_norm_eps=-1.0 must be"),
    ("mamba2", {"mamba2.channels": 35}, "35 channels, .* 4 heads do not div"),
    ("mamba2", {"mamba2.multipliers": (1.0,)}, "must be five positive numbers"),
    (
      "delta_net",
      {"delta_net.n_key_heads": 3},
      r"opts\.delta_net\.n_key_heads=3 does not divide its 4 heads",
    ),
    ("delta_net", {"delta_net.n_heads": -1}, "n_heads=-1 must be positive"),
    (
      "attention",
      {"attention.gate": "heads"},
      "gate='heads' is not one of none, channel, head",
    ),
    ("attention", {"glu.multipliers": (1.0, 0.0)}, "two positive numbers"),
    ("attention/moe", {"glu.bias": True}, r"opts\.glu\.bias=True: the experts"),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("attention", "mamba_2")},
      "did you mean 'mamba2'",
    ),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("attention",)},
      "two or more that differ",
    ),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("attention", "parallel_heads")},
      "would never end",
    ),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("mamba", "mamba2")},
      "one branch of softmax attention",
    ),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("cross_attention", "mamba2")},
      "'cross_attention' does not",
    ),
    (
      "parallel_heads",
      {"parallel_heads.mixers": ("attention", "rwkv7")},
      "'rwkv7' does not",
    ),
    (
      "parallel_heads",
      {"parallel_heads.multipliers_in": (1.0, 1.0, 1.0)},
      "multipliers_in=.* must be positive, one for each",
    ),
    ("mamba", {"mamba.n_heads": 5}, "n_heads=5 does not divide the 48 chan"),
    ("shared_block", {"shared_block.mixer": "rwkv7"}, "must be a recurrence"),
    ("shared_block", {"shared_block.mixer": "attention"}, "be a recurrence"),
    ("shared_block", {"shared_block.mixer": "mamba_2"}, "mean 'mamba2'"),
    ("shared_block", {"shared_block.mixer": "shared_block"}, "never end"),
    ("shared_block", {"shared_block.ffn": "moe"}, "does more than work on"),
    (
      "parallel_heads",
      {"mamba2.head_dim": 7},
      "heads of 7 do not divide",
    ),
  ],
)
def test_what_cannot_be_is_refused(model_config, mixer, opts, said):
  with pytest.raises(UserError, match=said):
    model_config(pattern=(mixer,), opts=opts)


def test_a_shared_block_stands_before_the_norm_of_its_layer(model_config):
  with pytest.raises(UserError, match=r"'post': model\.mixer='shared_block'"):
    model_config(pattern=("shared_block",), residual="post")


def test_branches_bring_their_options_and_their_position(model_config):
  config = model_config(
    pattern=("parallel_heads",),
    opts={
      "parallel_heads.mixers": ("sliding_window", "rg_lru"),
      "sliding_window.window": 7,
      "sliding_window.position": "alibi",
    },
    position="alibi",
  )
  assert config.options("sliding_window").window == 7
  assert config.position == "alibi"
  assert model_config(pattern=("parallel_heads",)).position == "rope"
