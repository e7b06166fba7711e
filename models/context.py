"""What a mixer is told about its tokens, and dropout, which needs it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("seed", "example_ids_B"),
  meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class DropoutKey:
  """Identifies one step's dropout masks.

  Attributes:
    seed: one word, a fresh one each step.
    example_ids_B: the example's number in the global batch, so that
      microbatches and shards draw the masks of one big batch.
  """

  seed: UInt32[Array, ""]
  example_ids_B: Int[Array, " B"]


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=(
    "positions_BT",
    "segment_ids_BT",
    "dropout",
    "layer",
    "shared",
    "tokens_BT",
    "source_BTD",
    "embedded_BTD",
    "previous_BTD",
    "first_values",
    "tied",
  ),
  meta_fields=("causal",),
)
@dataclasses.dataclass(frozen=True)
class Context:
  """One chunk of tokens, as every mixer and ffn sees it.

  Attributes:
    positions_BT: position within the document.
    segment_ids_BT: number of the document within the row; 0 is padding. None:
      each row is one document.
    causal: whether a token sees only itself and what came before.
    dropout: None outside training.
    layer: index of the layer.
    shared: by the word of a position, what it made for all layers.
    tokens_BT: what stood there before it was embedded; None: not known.
    source_BTD: what cross-attention looks at; None: the layer's own input.
    embedded_BTD: the stream before any layer; None: the layer's own input.
    previous_BTD: for an ffn that asks for it, its input at the token before; 0
      before a document.
    first_values: by mixer, what its first layer passed on; None: to one that
      is the first for certain.
    tied: by mixer, the parameters that all its layers share.
  """

  positions_BT: Int[Array, "B T"]
  segment_ids_BT: Int[Array, "B T"] | None = None
  causal: bool = True
  dropout: DropoutKey | None = None
  layer: Int[Array, ""] | int = 0
  shared: dict[str, Any] | None = None
  tokens_BT: Int[Array, "B T"] | None = None
  source_BTD: Float[Array, "B T D"] | None = None
  embedded_BTD: Float[Array, "B T D"] | None = None
  previous_BTD: Float[Array, "B T D"] | None = None
  first_values: dict[str, Array] | None = None
  tied: dict[str, Any] | None = None

  @property
  def training(self) -> bool:
    return self.dropout is not None

  def at_layer(self, layer: Int[Array, ""] | int) -> "Context":
    return dataclasses.replace(self, layer=layer)

  def sharing(self, shared: dict[str, Any] | None) -> "Context":
    return dataclasses.replace(self, shared=shared)

  def chunk(self, start: int, end: int) -> "Context":
    """The context of the slots from `start` to before `end`."""

    def cut(a):
      return None if a is None else a[:, start:end]

    return dataclasses.replace(
      self,
      positions_BT=self.positions_BT[:, start:end],
      segment_ids_BT=cut(self.segment_ids_BT),
      tokens_BT=cut(self.tokens_BT),
      source_BTD=cut(self.source_BTD),
      embedded_BTD=cut(self.embedded_BTD),
    )


def hash32(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
  """A bijective hash of 32-bit words (Wellons' lowbias32)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def _row_bits(ctx: Context, site: int) -> UInt32[Array, " B"]:
  """One word for each example at a site of the layer; needs a dropout key."""
  assert ctx.dropout is not None
  stream = hash32(ctx.dropout.seed ^ hash32(_words(ctx.layer) * 8 + site))
  return hash32(stream + _words(ctx.dropout.example_ids_B))


def _words(a: Array | int) -> UInt32[Array, "..."]:
  return jnp.asarray(a).astype(jnp.uint32)


def dropout(
  x_BTD: Float[Array, "B T D"], rate: float, ctx: Context, site: int
) -> Float[Array, "B T D"]:
  """Dropout (Srivastava et al. 2014) with a mask that is a pure function.

  The mask hashes (seed, site, layer, example, slot, channel): accumulation,
  meshes and kernels all see the same one.

  Args:
    rate: probability of zeroing, in [0, 1).
    site: tells apart several dropouts in one layer.
  """
  if ctx.dropout is None or not rate:
    return x_BTD
  keep = _bits(x_BTD.shape[1:], ctx, site) >= jnp.uint32(round(rate * 2**32))
  return jnp.where(keep, x_BTD / (1 - rate), 0).astype(x_BTD.dtype)


def uniform(
  shape: tuple[int, ...], ctx: Context, site: int
) -> Float[Array, "B T D"]:
  """Numbers in [0, 1] for T slots of D channels, drawn as `dropout` draws."""
  return _bits(shape, ctx, site).astype(jnp.float32) / 2.0**32


def _bits(
  shape: tuple[int, ...], ctx: Context, site: int
) -> UInt32[Array, "B T D"]:
  T, D = shape
  row_B = _row_bits(ctx, site)
  slot_BT = hash32(row_B[:, None] + _words(jnp.arange(T)))
  return hash32(slot_BT[..., None] + _words(jnp.arange(D)))


def stochastic_depth(
  x_BTD: Float[Array, "B T D"],
  last_rate: float,
  n_layers: int,
  ctx: Context,
  site: int,
) -> Float[Array, "B T D"]:
  """Stochastic depth (Huang et al. 2016, arXiv:1603.09382) of one branch.

  An example (a row of the batch, with all its documents) loses the whole
  branch with the probability of its layer, which rises linearly from 0 at the
  first to `last_rate` at the last (section 3; there the input counts as layer
  0). Kept branches are divided by the probability of keeping, so that
  evaluation needs no factor. The mask hashes as that of `dropout` does.

  Args:
    last_rate: probability of dropping in the last layer, in [0, 1).
    site: tells apart the branches of a layer, and dropout's sites.
  """
  if ctx.dropout is None or not last_rate:
    return x_BTD
  # A module behind the last layer drops as that does.
  layer = jnp.minimum(jnp.asarray(ctx.layer, jnp.float32), n_layers - 1)
  rate = last_rate * layer / (n_layers - 1)
  keep_B = _row_bits(ctx, site) >= (rate * 2.0**32).astype(jnp.uint32)
  # fp32: the factor in bf16 is off by up to 2^-9, the same way for all.
  kept_BTD = (x_BTD / (1 - rate)).astype(x_BTD.dtype)
  return jnp.where(keep_B[:, None, None], kept_BTD, 0)
