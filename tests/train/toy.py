"""A toy tree of parameters, of every kind that an optimizer tells apart."""

import jax
import jax.numpy as jnp
import numpy as np

from ablax.configs import base
from ablax.models.param import ParamSpec, zeros
from ablax.train.config import resolve

L = 3

# path -> (shape of one layer, axes, roles); all but "embedding" are stacked.
LAYER = {
  "q": ((5, 2, 3), ("embed", "heads", "head_dim"), ("in", "out", "out")),
  "o": ((2, 3, 5), ("heads", "head_dim", "embed"), ("in", "in", "out")),
  "up": ((5, 7), ("embed", "ff"), ("in", "out")),
  "bias": ((2, 3), ("heads", "head_dim"), ()),
  "scale": ((5,), ("norm",), ()),
}
TABLE = ((11, 5), ("vocab", "embed"), ("in", "out"))


def spec(shape, axes, roles):
  return ParamSpec(shape, jnp.dtype("float32"), axes, zeros, roles)


def scanned():
  """Specs with the layers stacked, as a model has them."""

  def stack(shape, axes, roles):
    return spec((L, *shape), ("layers", *axes), roles and ("batch", *roles))

  layers = {name: stack(*what) for name, what in LAYER.items()}
  return {"embedding": spec(*TABLE), "groups": {"0": layers}}


def unrolled():
  """Specs of the same model, each layer with parameters of its own."""
  layers = {name: spec(*what) for name, what in LAYER.items()}
  return {"embedding": spec(*TABLE)} | {f"layer{i}": layers for i in range(L)}


def unroll(tree):
  """From arrays as in `scanned` to arrays as in `unrolled`."""
  layers = tree["groups"]["0"]
  return {"embedding": tree["embedding"]} | {
    f"layer{i}": {name: a[i] for name, a in layers.items()} for i in range(L)
  }


def draw(specs, seed, scale=1.0):
  """Normal numbers in the place of the specs, in fp32."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: jnp.asarray(scale * rng.standard_normal(s.shape), jnp.float32),
    specs,
  )


def opt(name="adamw", **changes):
  """An `OptConfig`; options as `muon__scale="original"`."""

  def key(k):
    entry, _, option = k.partition("__")
    return f"opt.opts.{entry}.{option}" if option else f"opt.{k}"

  plain = {"name": name, "schedule": "constant", "weight_decay": 0.0}
  values = {key(k): v for k, v in (plain | changes).items()}
  return resolve(base.get_config(), values | {"steps": 1000}).opt
