"""FFNS: what works on each token alone.

A new one is one file here and one line below.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError, nearest
from ...registry import Registry
from ..config import ModelConfig
from ..context import Context

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
  "silu": jax.nn.silu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "relu2": lambda x: jax.nn.relu(x) ** 2,
  "sigmoid": jax.nn.sigmoid,
  "tanh": jnp.tanh,
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
  "elu": jax.nn.elu,
  "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
  "identity": lambda x: x,  # in a gated unit: bilinear
}


def check_activation(entry: str, name: str) -> None:
  if name not in ACTIVATIONS:
    raise UserError(
      f"model.opts.{entry}.activation={name!r} is not an activation"
      f"{nearest(name, ACTIVATIONS)}"
    )


class FFN(nn.Module):
  """The contract: a chunk of tokens in, one of the same shape out."""

  config: ModelConfig

  @classmethod
  def check(cls, config: ModelConfig) -> None:
    """Raises UserError where the model can't have this network."""
    del config

  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    raise NotImplementedError(f"{type(self).__name__} must define __call__")


FFNS = Registry(
  "ffn",
  "model.ffn",
  __name__,
  {
    "mlp": "mlp:MLP",
    "glu": "glu:GLU",
    "low_rank": "low_rank:LowRank",
  },
)
