"""Maximal update parametrization, muP (Yang et al. 2022, arXiv:2203.03466).

With `model.mup_base` a model trains as its proxy does, the same config at that
width: the learning rate that is best there is best here. At the base width
nothing changes, to the bit. Elsewhere, with a matrix that has r_in times the
proxy's inputs and r_out times its outputs (table 3, and for tables of the
vocabulary table 8, which serves tied ones too):

                          std of init           rate, Adam      rate, SGD
    hidden matrix         1 / sqrt(r_in)        1 / r_in        r_out / r_in
    from finite to wide   1                     1               r_out
    from wide to finite   1 / r_in              1 / r_in        1 / r_in
    table of vocabulary   1                     1               r_out
    norm, bias            as it is              1               r_out

times the proxy's own. The output matrix is a table too, one vector for each
token, and reads the hidden state at 1/width; attention's scores are over H in
the place of sqrt(H). The standard deviations are those of one formula, that of
the spectral norm (Yang et al. 2023, arXiv:2310.17813). Rates are in
`train/optimizers/width.py`; what grows is found as in the package `mup`, by
comparing the shapes of the model with those of the proxy.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax

from ..errors import UserError
from .config import ModelConfig, default_ff_dim
from .param import Init, ParamSpec


def at_width(config: ModelConfig, d_model: int) -> ModelConfig:
  """The same model at another width; `mup_grows` says how heads follow.

  As many query heads for each key head as before, except that one key head
  for several query heads stays one.

  Raises:
    UserError: a size would not be whole.
  """
  c = config

  def grown(key: str) -> int:
    whole, rest = divmod(getattr(c, key) * d_model, c.d_model)
    if rest:
      raise UserError(
        f"model.{key}={getattr(c, key)} of model.d_model={c.d_model} would be"
        f" {whole + rest / c.d_model:g} at the width {d_model}, and muP"
        " compares the two; change it, or model.mup_base"
      )
    return whole

  sizes = {"ff_dim": default_ff_dim(d_model)}
  if c.ff_dim != default_ff_dim(c.d_model):
    sizes["ff_dim"] = grown("ff_dim")
  if c.mup_grows == "head_dim":
    sizes["head_dim"] = grown("head_dim")
  else:
    sizes["n_heads"] = grown("n_heads")
    multi_query = c.n_kv_heads == 1 < c.n_heads
    sizes["n_kv_heads"] = 1 if multi_query else grown("n_kv_heads")
  return dataclasses.replace(c, d_model=d_model, **sizes)


def base_config(config: ModelConfig) -> ModelConfig:
  """The proxy, in standard parametrization; there must be one."""
  assert config.mup_base
  plain = dataclasses.replace(config, mup_base=0)
  return at_width(plain, config.mup_base)


def query_scale(config: ModelConfig, scaled: bool = False) -> float:
  """For queries whose scores are then over sqrt(H): together sqrt(H_0) / H.

  Or, where they are `scaled` by what does not know H, H_0 / H of it.

  H_0 is the proxy's head dim. Queries and keys align while they are learned,
  and their product then grows as H (definition 4.1).
  """
  if not config.mup_base:
    return 1.0
  ratio = base_config(config).head_dim / config.head_dim
  return ratio if scaled else math.sqrt(ratio)


def readout_scale(config: ModelConfig) -> float:
  """For the hidden state that the output matrix reads (table 8)."""
  return config.mup_base / config.d_model if config.mup_base else 1.0


def growth(spec: ParamSpec) -> tuple[float, float]:
  """How many times the proxy's inputs and outputs one linear map has.

  (1, 1) without muP. A table of the vocabulary is, on either side of the
  model, a map from tokens; what is no linear map is all output.
  """
  if not spec.base_shape:
    return 1.0, 1.0
  ratios = [
    ours / theirs
    for ours, theirs in zip(spec.shape, spec.base_shape, strict=True)
  ]
  if not spec.roles or "vocab" in spec.axes:
    return 1.0, math.prod(ratios)
  n_in, n_out = (
    math.prod(r for r, at in zip(ratios, spec.roles, strict=True) if at == role)
    for role in ("in", "out")
  )
  return n_in, n_out


def init_factor(spec: ParamSpec) -> float:
  """Of the proxy's standard deviation: a spectral norm of sqrt(out / in)."""
  n_in, n_out = growth(spec)
  return math.sqrt(min(1.0, n_out / n_in) / n_in)


def parametrize(
  specs: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, Any]:
  """The specs of a model with the initialisers and shapes of its proxy's."""

  def one(spec: ParamSpec, narrow: ParamSpec) -> ParamSpec:
    spec = dataclasses.replace(spec, base_shape=narrow.shape)
    if not spec.roles:  # its initialiser may know the shape
      return spec
    init = _times(narrow.init, init_factor(spec))
    return dataclasses.replace(spec, init=init)

  return jax.tree.map(one, dict(specs), dict(base))


@functools.cache  # equal arguments give an equal function, so jit caches
def _times(init: Init, factor: float) -> Init:
  if factor == 1:
    return init
  return lambda key, shape, dtype: factor * init(key, shape, dtype)
