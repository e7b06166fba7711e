"""Causal averaging mixer: a plugin, and a template for your own.

  ablax train --config=configs/lm/tiny.py \
    --config.plugins=examples/plugins/average.py --config.model.mixer=average
  ablax prove mixer --config=configs/lm/tiny.py \
    --config.plugins=examples/plugins/average.py --config.model.mixer=average
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from ablax.models.linear import Projection
from ablax.models.mixers import MIXERS, Mixer


@dataclasses.dataclass(frozen=True)
class Options:
  decay: float = 0.9  # of a token's weight, for each token after it; (0, 1)


@MIXERS.register("average")
class Average(Mixer):
  """y_t = W_o h_t, h_t = decay h_{t-1} + (1 - decay) W_v x_t in a document.

  The decode state is h and the number of its document: D + 1 numbers.
  """

  @nn.compact
  def __call__(self, x_BTD, ctx, state=None):
    c = self.config
    B, T, D = x_BTD.shape
    decay = c.options("average").decay
    square = (c, "BTD,DF->BTF", (D, D), ("embed", "ff"))
    v_BTD = Projection(*square, name="v")(x_BTD).astype(jnp.float32)
    segments_BT = ctx.segment_ids_BT
    if segments_BT is None:
      segments_BT = jnp.ones((B, T), jnp.int32)
    first = state or self.init_state(c, B, T)

    def step(carry, token):
      h_BD, segment_B = carry
      v_BD, now_B = token
      kept_BD = jnp.where((now_B == segment_B)[:, None], h_BD, 0)
      h_BD = decay * kept_BD + (1 - decay) * v_BD
      return (h_BD, now_B), h_BD

    (h_BD, segment_B), h_TBD = jax.lax.scan(
      step,
      (first["h"], first["segment"]),
      (v_BTD.swapaxes(0, 1), segments_BT.swapaxes(0, 1)),
    )
    out = Projection(
      c, "BTF,FD->BTD", (D, D), ("ff", "embed"), to_residual=True, name="o"
    )
    y_BTD = out(h_TBD.swapaxes(0, 1).astype(x_BTD.dtype))
    return y_BTD, state and {"h": h_BD, "segment": segment_B}

  @staticmethod
  def init_state(config, batch, max_len):
    del max_len  # the state does not grow
    return {
      "h": jnp.zeros((batch, config.d_model), jnp.float32),
      "segment": jnp.zeros((batch,), jnp.int32),
    }

  @staticmethod
  def state_numbers(config, max_len):
    del max_len
    return config.d_model + 1
