"""What a mixer is told about its tokens, and dropout, which needs it."""

import dataclasses
import functools

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
  data_fields=("positions_BT", "segment_ids_BT", "dropout", "layer"),
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
  """

  positions_BT: Int[Array, "B T"]
  segment_ids_BT: Int[Array, "B T"] | None = None
  causal: bool = True
  dropout: DropoutKey | None = None
  layer: Int[Array, ""] | int = 0

  def at_layer(self, layer: Int[Array, ""] | int) -> "Context":
    return dataclasses.replace(self, layer=layer)

  def chunk(self, start: int, end: int) -> "Context":
    """The context of the slots from `start` to before `end`."""
    segments_BT = self.segment_ids_BT
    if segments_BT is not None:
      segments_BT = segments_BT[:, start:end]
    return dataclasses.replace(
      self,
      positions_BT=self.positions_BT[:, start:end],
      segment_ids_BT=segments_BT,
    )


def hash32(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
  """A bijective hash of 32-bit words (Wellons' lowbias32)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


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
  T, D = x_BTD.shape[1:]

  def words(a):
    return jnp.asarray(a).astype(jnp.uint32)

  stream = hash32(ctx.dropout.seed ^ hash32(words(ctx.layer) * 8 + words(site)))
  row_B = hash32(stream + words(ctx.dropout.example_ids_B))
  slot_BT = hash32(row_B[:, None] + words(jnp.arange(T)))
  bits_BTD = hash32(slot_BT[..., None] + words(jnp.arange(D)))
  keep = bits_BTD >= jnp.uint32(round(rate * 2**32))
  return jnp.where(keep, x_BTD / (1 - rate), 0).astype(x_BTD.dtype)
