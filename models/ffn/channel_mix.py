"""RWKV's channel mixing (Peng et al. 2023, arXiv:2305.13048).

That of RWKV-4 to 6, and RWKV-7's (Peng et al. 2025, arXiv:2503.14456), which
has no receptance.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..param import declare
from . import FFN


@dataclasses.dataclass(frozen=True)
class Options:
  receptance: bool = True  # times sigmoid(W_r x), as before RWKV-7


def initial_mix(key, shape, dtype):
  """1 - sqrt(i / D) for channel i of D: the papers', at half the depth."""
  del key
  return (1 - (jnp.arange(shape[0]) / shape[0]) ** 0.5).astype(dtype)


class ChannelMix(FFN):
  """sigmoid(W_r x_r) * W_down relu(W_up x_k)^2.

  x_r and x_k are the token, moved towards the one before by a weight for each
  channel; RWKV-4 calls what is left of the token its mix.
  """

  of_previous = True
  expert = False

  @nn.compact
  def __call__(self, x_BTD, ctx, sizes_E=None):
    c, D, F = self.config, self.config.d_model, self.config.ff_dim
    away_BTD = ctx.previous_BTD - x_BTD

    def mixed(name: str) -> Float[Array, "B T D"]:
      mix_D = declare(
        self, f"mix_{name}", initial_mix, (D,), ("norm",), c.param_dtype
      )
      return x_BTD + mix_D.astype(x_BTD.dtype) * away_BTD

    sizes, axes = (D, F), ("embed", "ff")
    h_BTF = self.project("up", mixed("k"), sizes, axes, to_branch=True)
    h_BTF = jax.nn.relu(h_BTF) ** 2
    sizes, axes = (F, D), ("ff", "embed")
    y_BTD = self.project("down", h_BTF, sizes, axes, to_residual=True)
    if not c.options("channel_mix").receptance:
      return y_BTD
    # "norm" is the stream's width too: no rules split an axis twice.
    r_BTD = self.project("receptance", mixed("r"), (D, D), ("embed", "norm"))
    return jax.nn.sigmoid(r_BTD.astype(jnp.float32)).astype(y_BTD.dtype) * y_BTD
