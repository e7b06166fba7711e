"""Hyena: long convolutions between gates (Poli et al. 2023, arXiv:2302.10866).

    z_1 = x_1 v,    z_{n+1} = x_{n+1} (h_n * z_n)

of projections that have passed short convolutions. In definition 3.1 v passes a
long one too, before the first gate; in the authors' models, and here unless
`convolve_values` says so, it does not. Their lags' features are learned; these
are not.

Decoding keeps the inputs of each long convolution; `long_filter.py` says what
that costs: a token reads them all.
"""

import dataclasses
import functools

import jax.numpy as jnp

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ...parallel.rules import apart
from ..config import ModelConfig
from . import long_filter
from .long_filter import LongConvolution, LongFilter


@dataclasses.dataclass(frozen=True)
class Options(long_filter.Options):
  order: int = 2  # gates
  convolve_values: bool = False  # before the first gate, as in the paper

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "order")
    if self.order == 1 and not self.convolve_values:
      raise UserError(
        "order=1 has no long convolution; set it to 2, or convolve_values=True"
      )


class Hyena(LongConvolution):
  """A filter for each channel and each convolution."""

  word = "hyena"
  option_type = Options

  @classmethod
  def streams(cls, config):
    gates = [f"x{n + 1}" for n in range(cls.options(config).order)]
    return dict.fromkeys(["v", *gates], (config.d_model,))

  @classmethod
  def slot(cls, config):
    return {f"z{n}": (config.d_model,) for n in cls.convolved(config)}

  @classmethod
  def convolved(cls, config: ModelConfig) -> range:
    """Before which gates there is a long convolution, from 0."""
    o = cls.options(config)
    return range(0 if o.convolve_values else 1, o.order)

  def mix(self, found, hear, slots):
    c, o = self.config, self.options(self.config)
    places = self.convolved(c)
    shape, axes = (len(places), c.d_model), ("latent", "ff")
    h_LOE = LongFilter(c, o, shape, axes, name="filter")(slots)
    z_BTE, keep = found["v"], {}
    convolve = functools.partial(
      dispatch("long_conv", c.implementation), length=z_BTE.shape[1]
    )
    rows = ("batch", None, "ff")
    convolve = apart(convolve, (rows, (None, "ff"), ("batch", None), ()), rows)
    for n in range(o.order):
      if n in places:
        heard, kept = hear({f"z{n}": z_BTE.astype(c.compute_dtype)})
        keep |= kept
        z_BTE = convolve(
          heard.arrays[f"z{n}"],
          h_LOE[:, places.index(n)],
          heard.starts_BS,
          heard.offset,
        )
      z_BTE = found[f"x{n + 1}"].astype(jnp.float32) * z_BTE
    return z_BTE, keep
