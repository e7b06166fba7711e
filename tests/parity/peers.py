"""A mixer of ours and a module of torch on the same weights.

Outputs, and gradients of the input and of every weight, in fp32.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from ablax.models.context import Context
from ablax.models.once import Alone
from ablax.models.param import init_params, path_of, specs

B, T, D = 2, 13, 24


class Case(NamedTuple):
  """A mixer of ours, and a function that makes the peer.

  Attributes:
    peer: from our parameters (or their gradients, in the same tree) by path to
      those of the peer, by its names.
    build: makes the module, and what calls it on x and a mask.
    double: it computes in float64, where it is so deep that its own rounding
      would count as much as ours.
  """

  mixer: str
  model: dict[str, Any]
  peer: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
  build: Callable[[Any], tuple[torch.nn.Module, Callable[..., torch.Tensor]]]
  causal: bool = True
  double: bool = False


def as_torch(ours):
  """Each of our parameters under its path, dots for slashes."""
  return {path.replace("/", "_"): value for path, value in ours.items()}


class OfPaths(torch.nn.Module):
  """A module with our parameters, by path, and a formula of them and x."""

  def __init__(self, shapes, formula):
    super().__init__()
    for name, shape in shapes.items():
      self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
    self.formula = formula

  def by_head(self, x, name):
    kernel = getattr(self, f"mixer_{name}_kernel")
    return torch.einsum("btd,dnh->bnth", x, kernel)

  def out(self, o):
    return torch.einsum("bnth,nhd->btd", o, self.mixer_o_kernel)

  def normed(self, o, scale=True):
    o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + 1e-5)
    return o * self.mixer_norm_scale if scale else o

  def forward(self, x):
    return self.formula(self, x)


def of_paths(formula, **sizes):
  """A builder of it: `sizes` are shapes by our path, "_" for "/"."""

  def build(config):
    del config
    peer = OfPaths({f"mixer_{k}": v for k, v in sizes.items()}, formula)
    return peer, lambda x, mask: peer(x)

  return build


def flat(kernel):
  """[D, N, H] to a torch Linear's [NH, D]."""
  return kernel.reshape(kernel.shape[0], -1).T


def module(name: str):
  return importlib.import_module(f"transformers.models.{name}.modeling_{name}")


def by_path(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {path_of(path): np.asarray(leaf) for path, leaf in leaves}


def check(case, model_config):
  """Compares the two, with weights of which none starts at 0 or at 1."""
  usual = {"d_model": D, "pattern": (case.mixer,)}
  config = model_config(**usual | case.model)
  x = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
  at = jnp.broadcast_to(jnp.arange(T), (B, T))
  ctx = Context(at, causal=case.causal, layer=1)
  ours = Alone(config, case.mixer)
  params = init_params(specs(ours, jnp.asarray(x), ctx), jax.random.key(0))
  # Nothing starts at 0 or at 1: a wrong mapping would not show.
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  params = tree.unflatten(
    a + 0.2 * jax.random.normal(key, a.shape)
    for key, a in zip(keys, leaves, strict=True)
  )
  if "mixer/pair_norm/scale" in by_path(params):  # theirs has no scale
    scale = params["mixer"]["pair_norm"]["scale"]
    params["mixer"]["pair_norm"]["scale"] = jnp.ones_like(scale)

  @jax.jit
  def value_and_grads(params, x):
    def loss(params, x):
      y = ours.apply({"params": params}, x, ctx)[0]
      return jnp.sin(y).sum(), y

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  (_, got), (got_params, got_x) = value_and_grads(params, jnp.asarray(x))

  peer, call = case.build(config)
  names = case.peer(by_path(params))
  missing = peer.load_state_dict(
    {k: torch.tensor(v) for k, v in names.items()}, strict=False
  )
  given = set(names) | set(dict(peer.named_buffers()))
  assert not missing.unexpected_keys and given >= set(peer.state_dict()), (
    missing
  )
  seen = np.ones((T, T), bool)
  ago = np.arange(T)[:, None] - np.arange(T)[None]
  if case.causal:
    seen &= ago >= 0
  if case.mixer == "sliding_window":
    seen &= ago < 5
  dtype = torch.float64 if case.double else torch.float32
  peer.to(dtype).eval()
  mask = torch.where(torch.tensor(seen), 0.0, torch.finfo(torch.float32).min)
  mask = mask.to(dtype)
  theirs_x = torch.tensor(x, dtype=dtype, requires_grad=True)
  want = call(theirs_x, mask[None, None].expand(B, 1, T, T))
  torch.sin(want).sum().backward()

  # fp32: sums of some 100 terms in another order, relative to the largest.
  def close(got, theirs, least, share):
    atol = max(least, share * float(theirs.abs().max()))
    np.testing.assert_allclose(got, theirs, rtol=0, atol=atol)

  close(got, want.detach(), 2e-5, 5e-6)
  close(got_x, theirs_x.grad, 1e-4, 2e-5)
  want_params = dict(peer.named_parameters())
  for key, grad in case.peer(by_path(got_params)).items():
    close(grad, want_params[key].grad, 1.1e-4, 2e-5)
