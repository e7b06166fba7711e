"""Mixers with a state are transformers' modules, or flash-linear-attention's.

fla's naive forms are functions of q, k, v and gates; the modules around them
are written here, from the papers. Its files are loaded one by one: the package
asks for Triton.
"""

import functools
import importlib.util
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peers import B, Case, D, T, as_torch, check, flat, module, of_paths

from ablax.models.mixers.feature_maps import FEATURE_MAPS, directions

PROVES = (
  "mixer:linear_attention",
  "mixer:retention",
  "mixer:lightning_attention",
  "mixer:gla",
  "mixer:delta_net",
  "mixer:gated_delta_net",
  "mixer:mamba",
  "mixer:mamba2",
  "mixer:mlstm",
  "mixer:slstm",
  "mixer:s4d",
  "mixer:h3",
  "mixer:rg_lru",
  "mixer:min_gru",
)
AGAINST = {
  "mixer:linear_attention": "fla-core naive_recurrent_linear_attn",
  "mixer:retention": "fla-core naive_retention",
  "mixer:lightning_attention": "transformers MiniMaxLightningAttention",
  "mixer:gla": "fla-core naive_recurrent_gla",
  "mixer:delta_net": "fla-core delta_rule_recurrence",
  "mixer:gated_delta_net": "transformers Qwen3NextGatedDeltaNet",
  "mixer:mamba": "transformers MambaMixer",
  "mixer:mamba2": "transformers Mamba2Mixer",
  "mixer:slstm": "paper's recurrence, in torch",
  "mixer:s4d": "its convolution kernel, in torch",
  "mixer:h3": "its convolution kernels, in torch",
  "mixer:mlstm": "transformers xLSTMLayer",
  "mixer:rg_lru": "transformers RecurrentGemmaRecurrentBlock",
  "mixer:min_gru": "paper's form in logarithms, in torch",
}


@functools.cache
def naive(op):
  """fla's module of an op's naive forms."""
  (folder,) = importlib.util.find_spec("fla").submodule_search_locations
  path = pathlib.Path(folder) / "ops" / op / "naive.py"
  spec = importlib.util.spec_from_file_location(f"naive_{op}", path)
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


N, K, V = 4, 6, 5
BY_HEAD = {
  f"{name}_kernel": (D, N, size)
  for name, size in zip("qkv", (K, K, V), strict=True)
}
OUT = {"o_kernel": (N, V, D)}


def by_time(a):
  return a.transpose(1, 2)


def linear_attention(phi, normalize):
  def formula(m, x):
    q, k = (phi(m, name, m.by_head(x, name)) for name in "qk")
    v = m.by_head(x, "v")
    o, _ = naive("linear_attn").naive_recurrent_linear_attn(
      *map(by_time, (q, k, v)), scale=1.0, normalize=normalize
    )
    return m.out(by_time(o))

  return formula


def taylor(m, name, x):
  x = x / K**0.25
  square = torch.einsum("bnti,bntj->bntij", x, x).flatten(-2) / 2**0.5
  return torch.cat([torch.ones_like(x[..., :1]), x, square], -1)


def random(m, name, x):
  w = torch.tensor(directions(K, 9), dtype=torch.float32)
  x = x / K**0.25
  return torch.exp(x @ w.T - x.square().sum(-1, keepdim=True) / 2) / 3


def hedgehog(m, name, x):
  w = getattr(m, f"mixer_{name}_features_map_kernel")
  b = getattr(m, f"mixer_{name}_features_bias")
  y = torch.einsum("bnth,nhf->bntf", x, w) + b[:, None]
  return torch.softmax(torch.cat([y, -y], -1), -1)


PHI = {
  "elu": lambda m, name, x: torch.nn.functional.elu(x) + 1,
  "relu": lambda m, name, x: torch.relu(x),
  "identity": lambda m, name, x: x,
  "taylor": taylor,
  "random": random,
  "hedgehog": hedgehog,
}


def retention(m, x):
  angle = 10_000.0 ** -torch.linspace(0, 1, K // 2)
  turn = torch.polar(torch.ones(T, K // 2), torch.arange(T)[:, None] * angle)

  def turned(name):
    pairs = m.by_head(x, name).unflatten(-1, (-1, 2)).contiguous()
    return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)

  q, k, v = turned("q"), turned("k"), m.by_head(x, "v")
  o = naive("retention").naive_retention(q, k, v)
  gate = torch.nn.functional.silu(m.by_head(x, "gate"))
  return m.out(m.normed(o, scale=False) * gate)


def gla(m, x):
  q, k, v = (m.by_head(x, name) for name in "qkv")
  low = x @ m.mixer_decay_down_kernel
  logits = torch.einsum("btr,rnk->btnk", low, m.mixer_decay_up_kernel)
  g = torch.nn.functional.logsigmoid(logits + m.mixer_decay_up_bias) / 16
  o, _ = naive("gla").naive_recurrent_gla(*map(by_time, (q, k, v)), g)
  gate = torch.nn.functional.silu(m.by_head(x, "gate"))
  return m.out(m.normed(by_time(o)) * gate)


def delta_net(m, x, most=1):
  found = {}
  for name in "qkv":
    y = m.by_head(x, name)
    weight = getattr(m, f"mixer_conv_{name}_kernel")
    y = torch.nn.functional.pad(y, (0, 0, len(weight) - 1, 0))
    y = sum(w[:, None] * y[:, :, i : i + T] for i, w in enumerate(weight))
    found[name] = torch.nn.functional.silu(y)
  q, k = (
    a * torch.rsqrt(a.square().sum(-1, keepdim=True) + 1e-6)
    for a in (found["q"], found["k"])
  )
  beta = most * torch.sigmoid(x @ m.mixer_beta_kernel).transpose(1, 2)
  o, _ = naive("delta_rule").delta_rule_recurrence(q, k, found["v"], beta)
  return m.out(m.normed(o))


def build_gated(config):
  theirs = importlib.import_module(
    "transformers.models.qwen3_next.configuration_qwen3_next"
  )
  settings = theirs.Qwen3NextConfig(
    hidden_size=D,
    num_hidden_layers=4,
    linear_num_key_heads=N,
    linear_num_value_heads=N,
    linear_key_head_dim=K,
    linear_value_head_dim=V,
    linear_conv_kernel_dim=4,
    rms_norm_eps=config.norm_eps,
  )
  peer = module("qwen3_next").Qwen3NextGatedDeltaNet(settings, layer_idx=0)
  return peer, lambda x, mask: peer(x)


def gated_delta_net(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  # Matrices and convolutions of several, in their order.
  by_head = [of[f"{name}/kernel"] for name in ("q", "k", "v", "gate")]
  pair = [of[f"{name}/kernel"][..., None] for name in ("beta", "decay/step")]
  convs = [of[f"conv_{name}/kernel"].reshape(4, -1).T for name in "qkv"]
  return {
    "in_proj_qkvz.weight": flat(np.concatenate(by_head, axis=-1)),
    "in_proj_ba.weight": flat(np.concatenate(pair, axis=-1)),
    "conv1d.weight": np.concatenate(convs)[:, None],
    "dt_bias": of["decay/bias"],
    "A_log": of["decay/log_rate"],
    "norm.weight": of["norm/scale"],
    "out_proj.weight": of["o/kernel"].reshape(-1, D).T,
  }


def build_mamba(name, **sizes):
  def build(config):
    theirs = importlib.import_module(
      f"transformers.models.{name}.configuration_{name}"
    )
    settings = getattr(theirs, f"{name.title()}Config")(
      hidden_size=D,
      num_hidden_layers=2,
      conv_kernel=4,
      expand=2,
      layer_norm_epsilon=config.norm_eps,
      **sizes,
    )
    peer = getattr(module(name), f"{name.title()}Mixer")(settings, layer_idx=1)
    return peer, lambda x, mask: peer(x)

  return build


def mamba(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  into = [of[f"{name}/kernel"].T for name in ("x", "gate")]
  small = [of[f"{name}/kernel"][0].T for name in ("dt_down", "b", "c")]
  return {
    "in_proj.weight": np.concatenate(into),
    "conv1d.weight": of["conv/kernel"].T[:, None],
    "conv1d.bias": of["conv/bias"],
    "x_proj.weight": np.concatenate(small),
    "dt_proj.weight": of["dt_up/kernel"][0].T,
    "dt_proj.bias": of["dt_bias"],
    "A_log": of["log_rate"],
    "D": of["skip"],
    "out_proj.weight": of["o/kernel"].T,
  }


def mamba2(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  names = ("gate", "x", "b", "c", "decay/step")
  into = [flat(of[f"{name}/kernel"]) for name in names]
  convs = [of[f"conv_{name}/kernel"].reshape(4, -1).T for name in "xbc"]
  biases = [of[f"conv_{name}/bias"].reshape(-1) for name in "xbc"]
  scale = of.get("norm/scale")  # Falcon-H1 may have none
  norm = {} if scale is None else {"norm.weight": scale.reshape(-1)}
  return norm | {
    "in_proj.weight": np.concatenate(into),
    "conv1d.weight": np.concatenate(convs)[:, None],
    "conv1d.bias": np.concatenate(biases),
    "dt_bias": of["decay/bias"],
    "A_log": of["decay/log_rate"],
    "D": of["skip"],
    "out_proj.weight": of["o/kernel"].reshape(-1, D).T,
  }


def build_mlstm(config):
  theirs = importlib.import_module(
    "transformers.models.xlstm.configuration_xlstm"
  )
  settings = theirs.xLSTMConfig(
    hidden_size=D,
    num_heads=N,
    num_hidden_layers=1,
    qk_dim_factor=0.5,
    v_dim_factor=1.0,
    norm_eps=config.norm_eps,
    chunkwise_kernel="chunkwise--native_autograd",
    sequence_kernel="native_sequence__native",
    step_kernel="native",
    mode="inference",
  )
  peer = module("xlstm").xLSTMLayer(settings)
  return peer, lambda x, mask: peer(x)[0]


def mlstm(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  names = {"q": "q", "k": "k", "v": "v", "gate": "ogate_preact"}
  found = {f"{b}.weight": flat(of[f"{a}/kernel"]) for a, b in names.items()}
  for a, b in (("input_gate", "igate_preact"), ("forget_gate", "fgate_preact")):
    found[f"{b}.weight"] = of[f"{a}/kernel"].T
    found[f"{b}.bias"] = of[f"{a}_bias"]
  return found | {
    "multihead_norm.weight": of["norm/scale"].reshape(-1),
    "out_proj.weight": of["o/kernel"].reshape(-1, D).T,
  }


def build_lightning(config):
  theirs = importlib.import_module(
    "transformers.models.minimax.configuration_minimax"
  )
  settings = theirs.MiniMaxConfig(
    hidden_size=D,
    num_hidden_layers=config.n_layers,
    num_attention_heads=N,
    num_key_value_heads=N,
    head_dim=K,
    block_size=5,
  )
  peer = module("minimax").MiniMaxLightningAttention(settings, layer_idx=1)
  return peer, lambda x, mask: peer(x, None, None)[0]


def lightning(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  by_head = [of[f"{name}/kernel"] for name in "qkv"]
  return {
    "qkv_proj.weight": flat(np.concatenate(by_head, axis=-1)),
    "output_gate.weight": flat(of["gate/kernel"]),
    "norm.weight": of["norm/scale"].reshape(-1),
    "out_proj.weight": of["o/kernel"].reshape(-1, D).T,
  }


def build_rg_lru(config):
  theirs = importlib.import_module(
    "transformers.models.recurrent_gemma.configuration_recurrent_gemma"
  )
  settings = theirs.RecurrentGemmaConfig(
    hidden_size=D,
    lru_width=D,
    num_attention_heads=N,
    num_key_value_heads=1,
    num_hidden_layers=3,
  )
  peer = module("recurrent_gemma").RecurrentGemmaRecurrentBlock(settings, 0)
  at = torch.arange(T)[None].expand(B, T)
  return peer, lambda x, mask: peer(x, at, None, use_cache=False)[0]


def rg_lru(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  found = {}
  for a, b in (("x", "linear_x"), ("gate", "linear_y")):
    found[f"{b}.weight"] = flat(of[f"{a}/kernel"])
    found[f"{b}.bias"] = of[f"{a}/bias"].reshape(-1)
  for a, b in (("input_gate", "input_gate"), ("decay_gate", "recurrent_gate")):
    found[f"rg_lru.{b}_weight"] = of[f"{a}/kernel"]
    found[f"rg_lru.{b}_bias"] = of[f"{a}_bias"]
  return found | {
    "rg_lru.recurrent_param": of["log_rate"].reshape(-1),
    "conv_1d.weight": of["conv/kernel"].reshape(4, D).T[:, None],
    "conv_1d.bias": of["conv/bias"].reshape(-1),
    "linear_out.weight": of["o/kernel"].reshape(-1, D).T,
    "linear_out.bias": of["o/bias"],
  }


def min_gru(m, x):
  """The paper's listing of appendix B: a cumulative sum in logarithms."""
  softplus = torch.nn.functional.softplus
  z, w = x @ m.mixer_gate_kernel, x @ m.mixer_candidate_kernel
  log_g = torch.where(w >= 0, torch.log(torch.relu(w) + 0.5), -softplus(-w))
  decays = torch.cumsum(-softplus(z), dim=1)
  sums = torch.logcumsumexp(-softplus(-z) + log_g - decays, dim=1)
  return torch.exp(decays + sums) @ m.mixer_o_kernel


def convolved(x, kernel):
  """Of each channel; [b, t, d] with [l, d], whose first is the token's own."""
  wave = torch.fft.rfft(x, 2 * T, 1) * torch.fft.rfft(kernel[:T], 2 * T, 0)
  return torch.fft.irfft(wave, 2 * T, 1)[:, :T]


def of_states(m, u):
  """S4D by its kernel (equation 3 of its paper), a Vandermonde product."""

  def of(name):
    return getattr(m, f"mixer_states_{name}")

  a = torch.complex(-torch.exp(of("log_rate")), of("frequency"))
  dt = torch.exp(of("log_step"))[:, None]
  c = (
    torch.complex(of("c_real"), of("c_imaginary")) * (torch.exp(dt * a) - 1) / a
  )
  powers = torch.exp((dt * a)[..., None] * torch.arange(T))
  kernel = 2 * torch.einsum("dp,dpl->ld", c, powers).real
  return convolved(u, kernel) + of("skip") * u


def s4d(m, x):
  y = torch.nn.functional.gelu(of_states(m, x), approximate="tanh")
  return (y @ m.mixer_o_kernel) * torch.sigmoid(y @ m.mixer_gate_kernel)


def h3(m, x):
  q, k, v = (x @ getattr(m, f"mixer_{name}_kernel") for name in "qkv")
  k = convolved(k, m.mixer_shift_kernel.flip(0))
  return (q * of_states(m, k * v)) @ m.mixer_o_kernel


def slstm(m, x):
  """As the paper's equations 8 to 14 are: nothing is divided by exp(m)."""
  weight, H = m.mixer_conv_kernel, D // N
  x = x.unflatten(-1, (N, H))
  padded = torch.nn.functional.pad(x, (0, 0, 0, 0, len(weight) - 1, 0))
  near = sum(w * padded[:, i : i + T] for i, w in enumerate(weight))
  near = torch.nn.functional.silu(near + m.mixer_conv_bias)

  def of(name, part):
    return getattr(m, f"mixer_{name}_{part}")

  into = {
    name: torch.einsum("btnh,nhg->btng", a, of(name, "kernel"))
    + (0 if name == "i" else of(name, "bias"))
    for name, a in zip("ifzo", (near, near, x, x), strict=True)
  }
  h = c = n = torch.zeros(B, N, H)
  found = []
  for t in range(T):
    i, f, z, o = (
      into[name][:, t] + torch.einsum("bnh,nhg->bng", h, of(name, "recurrent"))
      for name in "ifzo"
    )
    c = torch.sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
    n = torch.sigmoid(f) * n + torch.exp(i)
    h = torch.sigmoid(o) * c / n
    found.append(h)
  y = torch.stack(found, 1)
  y = y - y.mean(-1, keepdim=True)
  y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)
  return (y * m.mixer_norm_scale).flatten(-2)


STATES = {
  **{f"states_{name}": (D, 3) for name in ("log_rate", "frequency")},
  **{f"states_c_{name}": (D, 3) for name in ("real", "imaginary")},
  **{f"states_{name}": (D,) for name in ("log_step", "skip")},
}


def sized(mixer, **more):
  opts = {"key_dim": K, "value_dim": V} | more
  return {"opts": {f"{mixer}.{key}": value for key, value in opts.items()}}


GATE = {"gate_kernel": (D, N, V)}
CASES = {
  **{
    f"linear attention, {phi}": Case(
      "linear_attention",
      sized(
        "linear_attention",
        feature_map=phi,
        normalize=phi != "identity",
        n_features=9 if phi == "random" else 0,
      ),
      as_torch,
      of_paths(
        linear_attention(PHI[phi], phi != "identity"),
        **BY_HEAD | OUT,
        **(
          {}
          if phi != "hedgehog"
          else {f"{n}_features_map_kernel": (N, K, K) for n in "qk"}
          | {f"{n}_features_bias": (N, K) for n in "qk"}
        ),
      ),
    )
    for phi in FEATURE_MAPS
  },
  "retention": Case(
    "retention",
    sized("retention"),
    as_torch,
    of_paths(retention, **BY_HEAD | OUT | GATE),
  ),
  "lightning_attention": Case(
    "lightning_attention",
    # Four layers: the second has a decay between those of the ends.
    {"n_layers": 4, "head_dim": K, "norm_eps": 1e-6},
    lightning,
    build_lightning,
  ),
  "gla": Case(
    "gla",
    sized("gla", gate_rank=3),
    as_torch,
    of_paths(
      gla,
      **BY_HEAD | OUT | GATE,
      decay_down_kernel=(D, 3),
      decay_up_kernel=(3, N, K),
      decay_up_bias=(N, K),
      norm_scale=(V,),
    ),
  ),
  **{
    f"delta_net, beta up to {most}": Case(
      "delta_net",
      sized("delta_net", negative_eigenvalues=most == 2),
      as_torch,
      of_paths(
        functools.partial(delta_net, most=most),
        **BY_HEAD | OUT,
        **{
          f"conv_{name}_kernel": (4, N, size)
          for name, size in zip("qkv", (K, K, V), strict=True)
        },
        beta_kernel=(D, N),
        norm_scale=(V,),
      ),
    )
    for most in (1, 2)
  },
  "slstm": Case(
    "slstm",
    {},
    as_torch,
    of_paths(
      slstm,
      conv_kernel=(4, N, D // N),
      conv_bias=(N, D // N),
      norm_scale=(N, D // N),
      **{
        f"{name}_{part}": (N, D // N, D // N)
        for name in "ifzo"
        for part in ("kernel", "recurrent")
      },
      **{f"{name}_bias": (N, D // N) for name in "fzo"},
    ),
  ),
  "s4d": Case(
    "s4d",
    {"opts": {"s4d.state": 6}},
    as_torch,
    of_paths(s4d, **STATES, o_kernel=(D, D), gate_kernel=(D, D)),
  ),
  "h3": Case(
    "h3",
    {"opts": {"h3.state": 6, "h3.shift": 5}},
    as_torch,
    of_paths(
      h3,
      **STATES,
      **{f"{name}_kernel": (D, D) for name in "qkvo"},
      shift_kernel=(5, D),
    ),
  ),
  "mlstm": Case("mlstm", {}, mlstm, build_mlstm),
  "rg_lru": Case("rg_lru", {"use_bias": True}, rg_lru, build_rg_lru),
  "min_gru": Case(
    "min_gru",
    {"opts": {"min_gru.expand": 2}},
    as_torch,
    of_paths(
      min_gru,
      gate_kernel=(D, 2 * D),
      candidate_kernel=(D, 2 * D),
      o_kernel=(2 * D, D),
    ),
  ),
  "mamba": Case(
    "mamba",
    {"opts": {"mamba.state": 7, "mamba.dt_rank": 3}},
    mamba,
    build_mamba("mamba", state_size=7, time_step_rank=3),
  ),
  **{
    f"mamba2, {groups} groups": Case(
      "mamba2",
      {"opts": {"mamba2.state": 6, "mamba2.groups": groups}},
      mamba2,
      build_mamba(
        "mamba2",
        state_size=6,
        n_groups=groups,
        num_heads=N,
        head_dim=2 * D // N,
      ),
    )
    for groups in (1, 2)
  },
  "gated_delta_net": Case(
    "gated_delta_net",
    sized("gated_delta_net"),
    gated_delta_net,
    build_gated,
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_peer(name, model_config):
  check(CASES[name], model_config)


def test_random_features_are_in_the_mean_the_softmax_kernel(
  model_config,
):
  """The more of them, the closer phi(q) phi(k) comes to exp(q k / sqrt(H))."""
  rng = np.random.default_rng(3)
  q, k = rng.normal(size=(2, 50, K)) / 2
  want = np.exp((q * k).sum(-1) / K**0.5)
  errors = []
  for n in (6, 6000):
    phi = FEATURE_MAPS["random"](model_config(), n)
    made = [
      np.asarray(phi(jnp.asarray(a[None, :, None], jnp.float32)))[0, :, 0]
      for a in (q, k)
    ]
    got = (made[0] * made[1]).sum(-1)
    errors.append(np.abs(got / want - 1).mean())
  assert errors[1] < 0.03 and errors[0] > 5 * errors[1]
