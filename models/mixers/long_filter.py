"""What mixers by long convolutions share: their filters, and what they keep.

A filter is a function of the lag, as Hyena's (Poli et al. 2023,
arXiv:2302.10866; section 3.3): features of the lag, a small network whose
activations are sines, times a window that decays. It has a value for any lag
and as many parameters for long texts as for short ones. Lags are in units of
`model.max_len`; a longer text goes on with the same functions. The authors'
weight decay spares the network, for which opt.decay_rules has words.

No state of a fixed size holds what such a filter needs. Decoding keeps the
inputs of all tokens in slots, as attention does keys and values: the state and
the cost of a token grow with the context. Filters are computed in each call
anew, for as many lags as there are slots.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError, at_least
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..param import Init, declare, normal
from . import Mixer, State, cache
from .recurrence import ShortConv, document_starts


@dataclasses.dataclass(frozen=True)
class Options:
  """Defaults are those of the authors' language models."""

  conv: int = 3  # tokens of the short convolutions; 1: the token's own
  bands: int = 16  # complex exponentials among the features of a lag
  filter_width: int = 64  # of the filters' network
  filter_layers: int = 2  # of it, between the first and the last
  filter_frequency: float = 14.0  # of its sines, which learn it
  slow_decay: float = 1.5  # max_lens in which the first window falls to 0.01
  fast_decay: float = 0.3  # and the last one
  shift: float = 0.0  # added to windows: then far lags have a share too

  def __post_init__(self):
    at_least(1, self, "conv", "bands", "filter_width")
    at_least(0, self, "filter_layers", "shift")
    for key in ("filter_frequency", "slow_decay", "fast_decay"):
      if getattr(self, key) <= 0:
        raise UserError(f"{key}={getattr(self, key)} must be positive")


@functools.cache
def _all(value: float) -> Init:
  def init(key, shape, dtype):
    del key
    return jnp.full(shape, value, dtype)

  return init


class LongFilter(nn.Module):
  """Filters' values at lags from 0 on, the skip added at lag 0, in fp32.

  Attributes:
    shape: of the filters; windows differ along its last axis.
    axes: logical axes of that.
  """

  config: ModelConfig
  options: Options
  shape: tuple[int, ...]
  axes: tuple[str, ...]

  @nn.compact
  def __call__(self, length: int) -> Float[Array, "L ..."]:
    c, o, R = self.config, self.options, self.options.filter_width
    # fp32: bf16 has one number for many lags.
    exact = dataclasses.replace(c, compute_dtype="float32", matmul="default")
    at_L1 = jnp.arange(length, dtype=jnp.float32)[:, None] / c.max_len
    angles_LP = 2 * math.pi * at_L1 * jnp.linspace(1e-4, o.bands - 1, o.bands)
    features = (at_L1, jnp.cos(angles_LP), -jnp.sin(angles_LP))
    x_LR = jnp.concatenate(features, axis=1)

    def layer(name, letters, shape, axes, bias):
      spec = f"LP,P{letters}->L{letters}"
      sizes, axes = (x_LR.shape[1], *shape), ("latent", *axes)
      more = {"bias": bias, "initial": normal(0.02), "name": name}
      return Projection(exact, spec, sizes, axes, **more)(x_LR)

    def number(name, init, shape, axes):
      value = declare(self, name, init, shape, axes, c.param_dtype)
      return value.astype(jnp.float32)

    # One for each unit, shared by the layers.
    of_sines = _all(o.filter_frequency)
    frequency_R = number("frequency", of_sines, (R,), ("latent",))
    for i in range(o.filter_layers + 1):
      y_LR = layer(f"hidden_{i}", "R", (R,), ("latent",), True)
      x_LR = jnp.sin(frequency_R * y_LR)
    letters = "ON"[-len(self.shape) :]
    h_LX = layer("out", letters, self.shape, self.axes, False)
    rates_X = math.log(100) * jnp.linspace(
      1 / o.slow_decay, 1 / o.fast_decay, self.shape[-1]
    )
    at_LX = at_L1.reshape(-1, *(1,) * len(self.shape))
    h_LX *= jnp.exp(-rates_X * at_LX) + o.shift
    skip_X = number("skip", normal(1.0), self.shape, self.axes)
    return h_LX + jnp.where(at_LX == 0, skip_X, 0)


class Heard(NamedTuple):
  """What outputs of a chunk are made of.

  Attributes:
    arrays: inputs by name, [B, S, ...], the chunk's last.
    starts_BS: where a document begins; None: the row is one.
    offset: the slot of the chunk's first token.
  """

  arrays: dict[str, Array]
  starts_BS: Bool[Array, "B S"] | None
  offset: int | Int[Array, ""]


# New inputs by name -> what is heard, and what to keep of it.
Hear = Callable[[Mapping[str, Array]], tuple[Heard, dict[str, Array]]]


class LongConvolution(Mixer):
  """Projections, short convolutions of each, and then what `mix` says."""

  @classmethod
  def streams(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the projections of a token: (E,), or of heads (N, H)."""
    raise NotImplementedError(f"{cls.__name__} must define streams")

  @classmethod
  def slot(cls, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs that are kept of a token."""
    raise NotImplementedError(f"{cls.__name__} must define slot")

  def mix(
    self, found: dict[str, Array], hear: Hear, slots: int
  ) -> tuple[Float[Array, "B T ..."], dict[str, Array]]:
    """The outputs, in fp32, and what to keep.

    Args:
      found: the streams, by name.
      hear: gives new inputs those from before them.
      slots: as many inputs are heard then.
    """
    raise NotImplementedError(f"{type(self).__name__} must define mix")

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> tuple[Float[Array, "B T D"], State | None]:
    c, W = self.config, self.options(self.config).conv
    before = state or self.init_state(c, x_BTD.shape[0], 0)
    starts_BT = document_starts(ctx, before["last"])
    found, short = {}, {}
    for name, shape in self.streams(c).items():
      letters, axes = _axes(shape)
      project = Projection(
        c,
        f"BTD,D{letters}->BT{letters}",
        (c.d_model, *shape),
        ("embed", *axes),
        to_branch=name == "v",
        name=name,
      )
      y_BTX = constrain(project(x_BTD), "batch", "seq", *axes)
      conv = ShortConv(c, W, shape, axes, bias=True, name=f"conv_{name}")
      cached = before[f"conv_{name}"]
      found[name], short[f"conv_{name}"] = conv(y_BTX, starts_BT, cached)

    def hear(new: Mapping[str, Array]) -> tuple[Heard, dict[str, Array]]:
      if state is None:
        one = ctx.segment_ids_BT is None
        return Heard(dict(new), None if one else starts_BT, 0), {}
      slots, kept = cache.append(state, new, ctx)
      assert slots.segments_BS is not None
      first_BS = jnp.pad(slots.segments_BS, ((0, 0), (1, 0)))[:, :-1]
      starts_BS = slots.segments_BS != first_BS
      return Heard(slots.arrays, starts_BS, slots.offset), kept

    slots = x_BTD.shape[1] if state is None else state["segments"].shape[1]
    y_BTX, kept = self.mix(found, hear, slots)
    shape = y_BTX.shape[2:]
    letters, axes = _axes(shape)
    out = Projection(
      c,
      f"BT{letters},{letters}D->BTD",
      (*shape, c.d_model),
      (*axes, "embed"),
      to_residual=True,
      name="o",
    )
    y_BTD = out(y_BTX.astype(c.compute_dtype))
    if state is None:
      return y_BTD, None
    last_B = cache.segments_of(ctx)[:, -1]
    return y_BTD, {**short, **kept, "last": last_B}

  @classmethod
  def init_state(cls, config: ModelConfig, batch: int, max_len: int) -> State:
    W, dtype = cls.options(config).conv, config.compute_dtype
    return {
      **cache.init(cls.slot(config), dtype, batch, max_len),
      **{
        f"conv_{name}": jnp.zeros((batch, W - 1, *shape), dtype)
        for name, shape in cls.streams(config).items()
      },
      "last": jnp.zeros((batch,), jnp.int32),
      "next": jnp.zeros((), jnp.int32),
    }

  @classmethod
  def state_numbers(cls, config: ModelConfig, max_len: int) -> int:
    W = cls.options(config).conv
    slot, short = (
      sum(map(math.prod, of(config).values())) for of in (cls.slot, cls.streams)
    )
    return max_len * (slot + 2) + (W - 1) * short + 1


def _axes(shape: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
  """Letters and logical axes of channels, or of heads of them."""
  if len(shape) == 2:
    return "NH", ("heads", "head_dim")
  return "E", ("ff",)
