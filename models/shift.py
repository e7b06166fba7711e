"""The token before, for what looks at two: a state of one input."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .config import ModelConfig
from .context import Context
from .mixers import State
from .mixers.cache import segments_of
from .mixers.recurrence import document_starts, last_ones


def init_state(config: ModelConfig, batch: int) -> State:
  """Before the first token, of one layer."""
  return {
    "last": jnp.zeros((batch, 1, config.d_model), config.compute_dtype),
    "segments": jnp.zeros((batch,), jnp.int32),
  }


def token_before(
  x_BTD: Float[Array, "B T D"],
  ctx: Context,
  config: ModelConfig,
  state: State | None = None,
) -> tuple[Float[Array, "B T D"], State]:
  """Each token's predecessor in its document, else 0; and the state after."""
  before = state or init_state(config, x_BTD.shape[0])
  starts_BT = document_starts(ctx, before["segments"])
  (before_BTD, _), last = last_ones(x_BTD, starts_BT, before["last"])
  return before_BTD, {"last": last, "segments": segments_of(ctx)[:, -1]}
