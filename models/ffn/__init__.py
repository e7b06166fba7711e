"""FFNS: what works on each token alone.

A new one is one file here and one line below.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...errors import UserError, nearest
from ...parallel.rules import constrain
from ...registry import Registry
from ..config import ModelConfig
from ..context import Context
from ..linear import Projection

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
  """The contract: a chunk of tokens in, one of the same shape out.

  Attributes:
    present: False: a layer with it is its mixer alone.
    of_previous: reads `ctx.previous_BTD`, the input of the token before.
    expert: may be the network of a mixture's experts.
    n_experts: 0; or how many networks like this one stand side by side, each
      for tokens of its own: `project` then takes them as [E, C, D], or sorted
      by expert as [S, D].
  """

  config: ModelConfig
  n_experts: int = 0

  present: ClassVar[bool] = True
  of_previous: ClassVar[bool] = False
  expert: ClassVar[bool] = True

  @classmethod
  def check(cls, config: ModelConfig) -> None:
    """Raises UserError where the model can't have this network."""
    del config

  @classmethod
  def sees_later(cls, config: ModelConfig) -> str:
    """The config word by which a token depends on later ones; "": none."""
    del config
    return ""

  def __call__(
    self, x_BTD: Float[Array, "B T D"], ctx: Context
  ) -> Float[Array, "B T D"]:
    raise NotImplementedError(f"{type(self).__name__} must define __call__")

  def project(
    self,
    name: str,
    x: Float[Array, "..."],
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    sizes_E: Int[Array, " E"] | None = None,
    **more: Any,
  ) -> Float[Array, "..."]:
    """x W, by the expert's own W where there are experts."""
    spec = "BTX,XY->BTY"
    if self.n_experts:
      spec = "ECX,EXY->ECY"
      shape, axes = (self.n_experts, *shape), ("experts", *axes)
      more["bias"] = False
    project = Projection(self.config, spec, shape, axes, name=name, **more)
    y = project(x, sizes_E=sizes_E)
    if axes[-1] == "ff" and not self.n_experts:
      y = constrain(y, "batch", "seq", "ff")
    return y


FFNS = Registry(
  "ffn",
  "model.ffn",
  __name__,
  {
    "mlp": "mlp:MLP",
    "glu": "glu:GLU",
    "low_rank": "low_rank:LowRank",
    "moe": "moe:MoE",
    "channel_mix": "channel_mix:ChannelMix",
    "none": "none:NoFFN",
  },
)
