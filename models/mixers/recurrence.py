"""What mixers with a state of fixed size share: where documents begin in it.

A mixer says what its state holds and how a chunk changes it; without a state
the same function starts from zeros. Besides its own arrays a state has the
document that it is of, so that the next chunk knows whether it goes on.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...errors import UserError
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection
from ..param import declare, normal, ones, zeros
from . import Mixer, State, cache

# Logical axes of what a mixer works on: heads, or channels one by one.
HEADS, CHANNELS = ("heads", "head_dim"), ("ff",)


# Of `mix`: outputs, the arrays after them, and what later layers are given.
Mixed = (
  tuple[Float[Array, "B T D"], dict[str, Array]]
  | tuple[Float[Array, "B T D"], dict[str, Array], Array]
)


class Leaf(NamedTuple):
  """An array of a state, of one example."""

  shape: tuple[int, ...]
  dtype: str = "float32"


class Recurrence(Mixer):
  """A mixer that keeps `leaves` of what came before, whatever its length."""

  @classmethod
  def leaves(cls, config: ModelConfig) -> dict[str, Leaf]:
    """The arrays of a state, by name; all of them begin as zeros."""
    raise NotImplementedError(f"{cls.__name__} must define leaves")

  def mix(
    self,
    x_BTD: Float[Array, "B T D"],
    ctx: Context,
    starts_BT: Bool[Array, "B T"],
    state: Mapping[str, Array],
  ) -> Mixed:
    """A chunk after `state`, and the arrays after it; what it passes on.

    Args:
      starts_BT: where a document begins: nothing from before reaches it.
    """
    raise NotImplementedError(f"{type(self).__name__} must define mix")

  @property
  def bias(self) -> bool | None:
    """Of `into` and `out`; None: as `model.use_bias` says."""
    return None

  def into(
    self,
    x_BTD: Float[Array, "B T D"],
    name: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    to_branch: bool = False,
  ) -> Float[Array, "B T ..."]:
    """A projection to channels, (E,), or to heads of them, (N, H)."""
    letters = "NH" if len(shape) == 2 else "E"
    project = Projection(
      self.config,
      f"BTD,D{letters}->BT{letters}",
      (self.config.d_model, *shape),
      ("embed", *axes),
      to_branch=to_branch,
      bias=self.bias,
      name=name,
    )
    return constrain(project(x_BTD), "batch", "seq", *axes)

  def out(self, y_BTX: Float[Array, "B T ..."]) -> Float[Array, "B T D"]:
    """Of channels, or of heads of them, to the residual stream."""
    letters, axes = ("NH", HEADS) if y_BTX.ndim == 4 else ("E", CHANNELS)
    project = Projection(
      self.config,
      f"BT{letters},{letters}D->BTD",
      (*y_BTX.shape[2:], self.config.d_model),
      (*axes, "embed"),
      to_residual=True,
      bias=self.bias,
      name="o",
    )
    return project(y_BTX.astype(self.config.compute_dtype))

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context, state: State | None = None
  ) -> (
    tuple[Float[Array, "B T D"], State | None]
    | tuple[Float[Array, "B T D"], State | None, Array]
  ):
    before = state or self.init_state(self.config, x_BTD.shape[0], 0)
    starts_BT = document_starts(ctx, before["segments"])
    mixed = self.mix(x_BTD, ctx, starts_BT, before)
    kept = None
    if state is not None:
      kept = {
        name: a.astype(before[name].dtype) for name, a in mixed[1].items()
      }
      kept["segments"] = cache.segments_of(ctx)[:, -1]
    if len(mixed) == 3:
      return mixed[0], kept, mixed[2]
    return mixed[0], kept

  @classmethod
  def init_state(cls, config: ModelConfig, batch: int, max_len: int) -> State:
    del max_len
    arrays = {
      name: jnp.zeros((batch, *leaf.shape), leaf.dtype)
      for name, leaf in cls.leaves(config).items()
    }
    return {**arrays, "segments": jnp.zeros((batch,), jnp.int32)}

  @classmethod
  def state_numbers(cls, config: ModelConfig, max_len: int) -> int:
    del max_len
    return 1 + sum(math.prod(a.shape) for a in cls.leaves(config).values())


def document_starts(
  ctx: Context, last_B: Int[Array, " B"]
) -> Bool[Array, "B T"]:
  """Where documents begin; `last_B` is that of the token before the chunk."""
  segments_BT = cache.segments_of(ctx)
  before_BT = jnp.concatenate([last_B[:, None], segments_BT[:, :-1]], axis=1)
  return segments_BT != before_BT


def last_ones(
  x_BTX: Float[Array, "B T *X"],
  starts_BT: Bool[Array, "B T"],
  cached_BWX: Float[Array, "B W *X"],
) -> tuple[list[Float[Array, "B T *X"]], Float[Array, "B W *X"]]:
  """Each token's last W + 1 inputs, itself last; 0 before its document.

  Args:
    cached_BWX: those before the chunk.

  Returns:
    The inputs, and what to keep for the next chunk.
  """
  W, T = cached_BWX.shape[1], x_BTX.shape[1]
  all_BSX = jnp.concatenate([cached_BWX.astype(x_BTX.dtype), x_BTX], axis=1)
  document_BT = jnp.cumsum(starts_BT, axis=1, dtype=jnp.int32)
  document_BS = jnp.pad(document_BT, ((0, 0), (W, 0)))
  more = tuple(range(2, x_BTX.ndim))

  def of(a_BSX, here_BS, document):
    same = jnp.expand_dims(here_BS == document, more)
    return jnp.where(same, a_BSX, 0)

  found = [
    of(all_BSX[:, i : i + T], document_BS[:, i : i + T], document_BT)
    for i in range(W)
  ]
  kept_BWX = of(all_BSX[:, T:], document_BS[:, T:], document_BS[:, -1:])
  return [*found, x_BTX], kept_BWX


class ShortConv(nn.Module):
  """A causal convolution of each channel over its last `width` inputs.

  Attributes:
    shape, axes: sizes and logical axes of the channels.
  """

  config: ModelConfig
  width: int
  shape: tuple[int, ...]
  axes: tuple[str, ...]
  bias: bool = False

  @nn.compact
  def __call__(
    self,
    x_BTX: Float[Array, "B T *X"],
    starts_BT: Bool[Array, "B T"],
    cached_BWX: Float[Array, "B W *X"],
  ) -> tuple[Float[Array, "B T *X"], Float[Array, "B W *X"]]:
    c = self.config
    kernel_WX = declare(
      self,
      "kernel",
      normal(self.width**-0.5),
      (self.width, *self.shape),
      ("latent", *self.axes),
      c.param_dtype,
    ).astype(x_BTX.dtype)
    inputs, kept_BWX = last_ones(x_BTX, starts_BT, cached_BWX)
    y_BTX = kernel_WX[0] * inputs[0]
    for w_X, a_BTX in zip(kernel_WX[1:], inputs[1:], strict=True):
      y_BTX += w_X * a_BTX
    if self.bias:
      bias_X = declare(
        self, "bias", zeros, self.shape, self.axes, c.param_dtype
      )
      y_BTX += bias_X.astype(y_BTX.dtype)
    return y_BTX, kept_BWX


@dataclasses.dataclass(frozen=True)
class HeadOptions:
  """Sizes of heads with queries, keys and values."""

  key_dim: int = 0  # K of each head; 0: model.head_dim
  value_dim: int = 0  # V of each head; 0: model.head_dim

  def __post_init__(self):
    for key in ("key_dim", "value_dim"):
      if getattr(self, key) < 0:
        raise UserError(
          f"{key}={getattr(self, key)} must be positive, or 0 for its default"
        )


class HeadRecurrence(Recurrence):
  """One whose N heads have queries, keys, values, and states [K, V]."""

  @classmethod
  def sizes(cls, config: ModelConfig) -> tuple[int, int]:
    """K and V of a head."""
    o = cls.options(config)
    return o.key_dim or config.head_dim, o.value_dim or config.head_dim

  @classmethod
  def leaves(cls, config: ModelConfig) -> dict[str, Leaf]:
    return {"state": Leaf((config.n_heads, *cls.sizes(config)))}

  def by_head(
    self, x_BTD: Array, name: str, size: int, to_branch: bool = False
  ) -> Float[Array, "B T N H"]:
    """A projection to `size` numbers for each head."""
    shape = (self.config.n_heads, size)
    return self.into(x_BTD, name, shape, HEADS, to_branch)


class HeadNorm(nn.Module):
  """Norm of each head's outputs, or of several neighbours' together, in fp32.

  Attributes:
    eps: under the root; 0: `model.norm_eps`.
    centered: without the mean, as GroupNorm; else RMSNorm.
    scale: "shared" by all heads, one for "each", or "none".
    bias: for each head.
    over: heads that are normed together.
  """

  config: ModelConfig
  eps: float = 0.0
  centered: bool = False
  scale: str = "shared"
  bias: bool = False
  over: int = 1

  @nn.compact
  def __call__(
    self, x_BTNV: Float[Array, "B T N V"]
  ) -> Float[Array, "B T N V"]:
    shape, dtype = x_BTNV.shape[2:], self.config.param_dtype
    joined = (*x_BTNV.shape[:2], shape[0] // self.over, self.over * shape[1])
    x_BTGX = x_BTNV.astype(jnp.float32).reshape(joined)
    if self.centered:
      x_BTGX -= x_BTGX.mean(-1, keepdims=True)
    square = jnp.square(x_BTGX).mean(-1, keepdims=True)
    x_BTGX *= jax.lax.rsqrt(square + (self.eps or self.config.norm_eps))
    x_BTNV = x_BTGX.reshape(x_BTNV.shape)
    if self.scale == "shared":
      x_BTNV *= declare(self, "scale", ones, shape[1:], ("norm",), dtype)
    elif self.scale == "each":
      x_BTNV *= declare(self, "scale", ones, shape, HEADS, dtype)
    if self.bias:
      x_BTNV += declare(self, "bias", zeros, shape, HEADS, dtype)
    return x_BTNV


def unit(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
  """Of length 1, in fp32 (1e-6 under the root, as fla's l2norm)."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-6)
