"""RWKV is transformers' module, and the models of the `rwkv` package.

The modules are compared by outputs and gradients, with the papers' recurrences
in torch where transformers has none; the package runs whole models, of two
layers and random weights.
"""

import functools
import importlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peers import B, Case, D, T, as_torch, by_path, check, module, of_paths

from ablax.models import lm

PROVES = (
  "mixer:rwkv4",
  "mixer:rwkv5",
  "mixer:rwkv6",
  "mixer:rwkv7",
  "ffn:channel_mix",
)
AGAINST = {
  "mixer:rwkv4": "transformers RwkvSelfAttention, rwkv RWKV",
  "mixer:rwkv5": "rwkv RWKV; paper's recurrence, in torch",
  "mixer:rwkv6": "rwkv RWKV; paper's recurrence, in torch",
  "mixer:rwkv7": "rwkv RWKV_x070; paper's recurrence, in torch",
  "ffn:channel_mix": "rwkv RWKV, RWKV_x070",
}

N, K, V = 4, 6, 5


def sized(mixer, **more):
  opts = {"key_dim": K, "value_dim": V} | more
  return {"opts": {f"{mixer}.{key}": value for key, value in opts.items()}}


def build_rwkv4(config):
  theirs = importlib.import_module(
    "transformers.models.rwkv.configuration_rwkv"
  )
  settings = theirs.RwkvConfig(hidden_size=D, num_hidden_layers=2)
  peer = module("rwkv").RwkvSelfAttention(settings, layer_id=1)
  return peer, lambda x, mask: peer(x)[0]


def rwkv4(ours):
  of = {k.removeprefix("mixer/"): v for k, v in ours.items()}
  found = {
    "time_decay": of["log_rate"],
    "time_first": of["bonus"],
    "output.weight": of["o/kernel"].T,
  }
  for a, b in (("k", "key"), ("v", "value"), ("r", "receptance")):
    found[f"{b}.weight"] = of[f"{a}/kernel"].T
    found[f"time_mix_{b}"] = of[f"mix_{a}"][None, None]
  return found


def rwkv(mixed, log_rates):
  """Equations of the paper, a token at a time."""

  def formula(m, x):
    before = torch.nn.functional.pad(x, (0, 0, 1, -1))
    of = mixed(m, x, before)
    r, k, v, g = (m.by_head(of[name], name) for name in "rkvg")
    w = torch.exp(-torch.exp(log_rates(m, of)))  # [b, n, t, k]
    state, found = torch.zeros(B, N, K, V), []
    for t in range(T):
      new = k[:, :, t, :, None] * v[:, :, t, None]
      seen = state + m.mixer_bonus[None, :, :, None] * new
      found.append(torch.einsum("bnkv,bnk->bnv", seen, r[:, :, t]))
      state = w[:, :, t, :, None] * state + new
    o = torch.stack(found, 2)  # [b, n, t, v]
    o = o - o.mean(-1, keepdim=True)
    o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 64e-5)
    o = o * m.mixer_norm_scale[:, None] + m.mixer_norm_bias[:, None]
    return m.out(o * torch.nn.functional.silu(g))

  return formula


def rwkv5(m, x, before):
  return {
    name: x + (before - x) * getattr(m, f"mixer_mix_{name}") for name in "kvrg"
  }


def rwkv6(m, x, before):
  first = x + (before - x) * m.mixer_mix_x
  low = torch.tanh(
    torch.einsum("btd,dmr->mbtr", first, m.mixer_mix_down_kernel)
  )
  more = torch.einsum("mbtr,mrd->mbtd", low, m.mixer_mix_up_kernel)
  return {
    name: x + (before - x) * (getattr(m, f"mixer_mix_{name}") + more[i])
    for i, name in enumerate("wkvrg")
  }


def rates5(m, of):
  return m.mixer_log_rate[None, :, None].expand(B, N, T, K)


def rates6(m, of):
  low = torch.tanh(of["w"] @ m.mixer_decay_down_kernel)
  return rates5(m, of) + torch.einsum(
    "btr,rnk->bntk", low, m.mixer_decay_up_kernel
  )


RWKV = {
  **{
    f"{n}_kernel": (D, N, size)
    for n, size in zip("rkvg", (K, K, V, V), strict=True)
  },
  **{f"mix_{n}": (D,) for n in "rkvg"},
  **{n: (N, K) for n in ("log_rate", "bonus")},
  **{f"norm_{n}": (N, V) for n in ("scale", "bias")},
  "o_kernel": (N, V, D),
}


R7 = {"decay": 3, "rate": 4, "value": 2, "gate": 5}


def rwkv7(m, x):
  """Section 4's equations; the first layer's values are ones."""

  def of(name):
    return getattr(m, f"mixer_{name}")

  def low_rank(x, name, between=lambda a: a):
    low = between(x @ of(f"{name}_down_kernel"))
    return torch.einsum("btr,rnh->bnth", low, of(f"{name}_up_kernel"))

  before = torch.nn.functional.pad(x, (0, 0, 1, -1))
  r_, w_, k_, v_, a_, g_ = (
    x + (before - x) * of(f"mix_{name}") for name in "rwkvag"
  )
  r, k, v = m.by_head(r_, "r"), m.by_head(k_, "k"), m.by_head(v_, "v")
  each = (slice(None), None)
  share = of("value_bias")[each] + low_rank(v_, "value")
  v = v + (1 - v) * torch.sigmoid(share)
  d = of("decay_bias")[each] + low_rank(w_, "decay", torch.tanh)
  w = torch.exp(-np.exp(-0.5) * torch.sigmoid(d))
  a = torch.sigmoid(of("rate_bias")[each] + low_rank(a_, "rate"))
  removed = torch.nn.functional.normalize(k * of("mix_removed")[each], dim=-1)
  k = k * (1 + (a - 1) * of("mix_kept")[each])
  state, found = torch.zeros(B, N, V, K), []  # as the paper writes it
  for t in range(T):
    turn = torch.diag_embed(w[:, :, t]) - torch.einsum(
      "bnk,bnl->bnkl", removed[:, :, t], (a * removed)[:, :, t]
    )
    state = state @ turn + v[:, :, t, :, None] * k[:, :, t, None]
    found.append(torch.einsum("bnvk,bnk->bnv", state, r[:, :, t]))
  o = torch.stack(found, 2)
  o = o - o.mean(-1, keepdim=True)
  o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 64e-5)
  o = o * m.mixer_norm_scale[each] + m.mixer_norm_bias[each]
  o = o + (r * of("bonus")[each] * k).sum(-1, keepdim=True) * v
  return m.out(o * low_rank(g_, "gate", torch.sigmoid))


CASES = {
  "rwkv4": Case("rwkv4", {}, rwkv4, build_rwkv4),
  "rwkv5": Case(
    "rwkv5",
    sized("rwkv5"),
    as_torch,
    of_paths(rwkv(rwkv5, rates5), **RWKV),
  ),
  "rwkv6": Case(
    "rwkv6",
    sized("rwkv6", mix_rank=3, decay_rank=2),
    as_torch,
    of_paths(
      rwkv(rwkv6, rates6),
      **RWKV,
      mix_w=(D,),
      mix_x=(D,),
      mix_down_kernel=(D, 5, 3),
      mix_up_kernel=(5, 3, D),
      decay_down_kernel=(D, 2),
      decay_up_kernel=(2, N, K),
    ),
  ),
  "rwkv7": Case(
    "rwkv7",
    sized("rwkv7", **{f"{name}_rank": R for name, R in R7.items()}),
    as_torch,
    of_paths(
      rwkv7,
      **{f"{n}_kernel": (D, N, V if n == "v" else K) for n in "rkv"},
      **{f"mix_{n}": (D,) for n in "rwkvag"},
      **{f"{n}_down_kernel": (D, R) for n, R in R7.items()},
      **{
        f"{n}_up_kernel": (R, N, V if n in ("value", "gate") else K)
        for n, R in R7.items()
      },
      **{f"{n}_bias": (N, K) for n in ("decay", "rate")},
      **{n: (N, K) for n in ("bonus", "mix_removed", "mix_kept")},
      **{n: (N, V) for n in ("norm_scale", "norm_bias", "value_bias")},
      o_kernel=(N, V, D),
    ),
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_peer(name, model_config):
  check(CASES[name], model_config)


@functools.cache
def package(seven):
  """Its module, which a variable makes that of RWKV-7 or of those before."""
  (folder,) = importlib.util.find_spec("rwkv").submodule_search_locations
  os.environ |= {"RWKV_V7_ON": str(int(seven)), "RWKV_JIT_ON": "0"}
  os.environ["RWKV_CUDA_ON"] = "0"
  spec = importlib.util.spec_from_file_location(
    f"rwkv_{seven}", os.path.join(folder, "model.py")
  )
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


def layers(params):
  """Of each layer, its parameters by path."""
  for name in ("first", "groups"):
    if name in params:
      block = params[name]["0"]
      for i in range(jax.tree.leaves(block)[0].shape[0]):
        yield by_path(jax.tree.map(lambda a, i=i: a[i], block))


def of_package(version, params):
  """Our parameters under the package's names."""

  def vector(a):
    return a.reshape(1, 1, -1)

  def rows(a):  # [D, N, H] or [D, E] to a torch Linear's
    return a.reshape(a.shape[0], -1).T

  found = {
    "emb.weight": params["embedding"],
    "head.weight": params["unembedding"],
  }
  for ours, theirs in (
    ("embed_norm", "blocks.0.ln0"),
    ("final_norm", "ln_out"),
  ):
    found[f"{theirs}.weight"] = params[ours]["scale"]
    found[f"{theirs}.bias"] = params[ours]["bias"]
  of_att = {"r": "receptance", "k": "key", "v": "value", "g": "gate"}
  low = {"decay": "w", "rate": "a", "value": "v", "gate": "g"}
  for i, of in enumerate(layers(params)):
    for ours, theirs in (("mixer_norm", "ln1"), ("ffn_norm", "ln2")):
      found[f"blocks.{i}.{theirs}.weight"] = of[f"{ours}/scale"]
      found[f"blocks.{i}.{theirs}.bias"] = of[f"{ours}/bias"]
    att, ffn = f"blocks.{i}.att", f"blocks.{i}.ffn"
    for ours, theirs in of_att.items():
      if f"mixer/{ours}/kernel" in of:
        found[f"{att}.{theirs}.weight"] = rows(of[f"mixer/{ours}/kernel"])
    o = of["mixer/o/kernel"]
    found[f"{att}.output.weight"] = o.reshape(-1, o.shape[-1]).T
    mixes = [path for path in of if path.startswith("mixer/mix_")]
    for path in mixes:
      name = path.removeprefix("mixer/mix_")
      if len(name) == 1:
        name = {4: "time_mix_", 5: "time_mix_", 6: "time_maa_", 7: "x_"}[
          version
        ] + name
        weight = 1 - of[path] if version == 5 else of[path]
        found[f"{att}.{name}"] = vector(weight)
    names = {"k": "key", "r": "receptance"}
    for name in names:
      if (path := f"ffn/mix_{name}") in of:
        theirs = {6: f"time_maa_{name}", 7: f"x_{name}"}
        weight = of[path] if version in theirs else 1 - of[path]
        theirs = theirs.get(version, f"time_mix_{name}")
        found[f"{ffn}.{theirs}"] = vector(weight)
    for ours, theirs in (
      ("up", "key"),
      ("down", "value"),
      ("receptance", "receptance"),
    ):
      if (path := f"ffn/{ours}/kernel") in of:
        found[f"{ffn}.{theirs}.weight"] = rows(of[path])
    if version > 4:
      found[f"{att}.ln_x.weight"] = of["mixer/norm/scale"].reshape(-1)
      found[f"{att}.ln_x.bias"] = of["mixer/norm/bias"].reshape(-1)
    if version < 7:
      found[f"{att}.time_decay"] = of["mixer/log_rate"]
      first = "time_first" if version == 4 else "time_faaaa"
      found[f"{att}.{first}"] = of["mixer/bonus"]
    if version == 6:
      found[f"{att}.time_decay"] = vector(of["mixer/log_rate"])
      down = of["mixer/mix_down/kernel"]
      found[f"{att}.time_maa_w1"] = down.reshape(down.shape[0], -1)
      found[f"{att}.time_maa_w2"] = of["mixer/mix_up/kernel"]
      found[f"{att}.time_decay_w1"] = of["mixer/decay_down/kernel"]
      found[f"{att}.time_decay_w2"] = rows(of["mixer/decay_up/kernel"]).T
    if version == 7:
      for ours, theirs in low.items():
        if f"mixer/{ours}_down/kernel" in of:
          found[f"{att}.{theirs}1"] = of[f"mixer/{ours}_down/kernel"]
          found[f"{att}.{theirs}2"] = rows(of[f"mixer/{ours}_up/kernel"]).T
        if f"mixer/{ours}_bias" in of:
          found[f"{att}.{theirs}0"] = vector(of[f"mixer/{ours}_bias"])
      found[f"{att}.k_k"] = vector(of["mixer/mix_removed"])
      found[f"{att}.k_a"] = vector(of["mixer/mix_kept"])
      found[f"{att}.r_k"] = of["mixer/bonus"]
  return {k: torch.tensor(np.ascontiguousarray(a)) for k, a in found.items()}


@pytest.mark.parametrize("version", [4, 5, 6, 7])
def test_a_whole_model_is_the_package_s(version, model_config, tmp_path):
  """Logits of two layers: time mixing, channel mixing, shifts and norms."""
  word = f"rwkv{version}"
  small = {"rwkv6": {"mix_rank": 3, "decay_rank": 4}}
  small["rwkv7"] = {f"{name}_rank": R for name, R in R7.items()}
  opts = {f"{word}.{k}": v for k, v in small.get(word, {}).items()}
  opts["channel_mix.receptance"] = version < 7
  config = model_config(
    pattern=(word,),
    first=(word,) if version == 7 else (),
    ffn="channel_mix",
    norm="layer_norm",
    embed_norm=True,
    tie_embeddings=False,
    opts=opts,
  )
  tokens = np.random.default_rng(1).integers(0, config.vocab_size, T)
  params = lm.init(config, jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  params = tree.unflatten(
    a + 0.2 * jax.random.normal(key, a.shape)
    for key, a in zip(keys, leaves, strict=True)
  )
  got = lm.apply(config, params, jnp.asarray(tokens)[None]).logits()[0]
  path = str(tmp_path / "weights")
  made = jax.tree.map(np.asarray, params)
  torch.save(of_package(version, made), f"{path}.pth")
  peer = package(version == 7)
  end = "" if version == 7 else ".pth"
  model = peer.RWKV(f"{path}{end}", "cpu fp32")
  with torch.no_grad():
    want, _ = model.forward(list(map(int, tokens)), None, True)
  # fp32; its factor e^(-1/2) of RWKV-7 has six digits.
  np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)
