"""Multi-token prediction modules (DeepSeek-AI 2024, arXiv:2412.19437).

Module k sees, at each token, the stream of module k - 1 there (of the model,
for the first) and the embedding of the token k places on, and predicts the one
after that; section 2.2. The output matrix is the model's, and so is the
embedding. They are there for the loss of `objective.name = "multi_token"`:
without it they cost nothing.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .block import stack
from .config import ModelConfig
from .context import Context
from .linear import Projection
from .norms import NORMS


class Ahead(nn.Module):
  """One module: h' = layer(W [norm(h); norm(embedding)])."""

  config: ModelConfig
  depth: int

  @nn.compact
  def __call__(
    self,
    h_BTD: Float[Array, "B T D"],
    next_BTD: Float[Array, "B T D"],
    ctx: Context,
  ) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"]]:
    """The stream after the module, and what the output matrix reads of it."""
    c = self.config
    both_BTC = jnp.concatenate(
      [
        NORMS[c.norm](c, name="stream_norm")(h_BTD),
        NORMS[c.norm](c, name="embed_norm")(next_BTD),
      ],
      axis=-1,
    )
    # "norm" is the stream's width too: no rules split an axis twice.
    shape, axes = (2 * c.d_model, c.d_model), ("embed", "norm")
    join = Projection(c, "BTC,CD->BTD", shape, axes, bias=False, name="join")
    last = c.groups[-1][1][-1]
    layers = stack(c, 1)(c, (last,), name="layers")
    at = jnp.array([c.n_layers + self.depth])
    carry = (join(both_BTC), ctx.first_values or {})
    (h_BTD, _), _ = layers(carry, ctx, at, (None,))
    return h_BTD, NORMS[c.norm](c, name="norm")(h_BTD)


def later(a_BT: Array, k: int) -> Array:
  """What stands k slots on; the last k slots have what begins the row."""
  return jnp.roll(a_BT, -k, axis=1)


def has_later(ctx: Context, k: int) -> Array:
  """Whether the document goes on for k slots more, [B, T]."""
  T = ctx.positions_BT.shape[1]
  inside_T = jnp.arange(T) < T - k
  segments_BT = ctx.segment_ids_BT
  if segments_BT is None:
    return jnp.broadcast_to(inside_T, ctx.positions_BT.shape)
  return inside_T & (later(segments_BT, k) == segments_BT)
