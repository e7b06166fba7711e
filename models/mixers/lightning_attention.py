"""Lightning attention (Qin et al. 2024, arXiv:2401.04658).

Linear attention whose heads decay at fixed rates, ALiBi's slopes, slower from
layer to layer: the last keeps all. As MiniMax-01 has it (MiniMax 2025,
arXiv:2501.08313).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...kernels.dispatch import dispatch
from ..config import ModelConfig
from .recurrence import HeadNorm, HeadOptions, HeadRecurrence


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  """Sizes alone."""


def rates(
  config: ModelConfig, layer: Int[Array, ""] | int
) -> Float[Array, " N"]:
  """Of each head, in nats a token."""
  N, L = config.n_heads, config.n_layers
  slopes_N = 2.0 ** (-8 * jnp.arange(1, N + 1) / N)
  # As in the released model's code: neither end is exact.
  return slopes_N * (1 - layer / (L - 1 + 1e-5) + 1e-5)


class LightningAttention(HeadRecurrence):
  """silu(q) . sum_s decay^(t - s) silu(k_s) silu(v_s), normed and gated."""

  word = "lightning_attention"
  option_type = Options

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, (K, V), N = self.config, self.sizes(self.config), self.config.n_heads
    q, k, v = (
      jax.nn.silu(self.by_head(x_BTD, name, size, to_branch=name == "v"))
      for name, size in zip("qkv", (K, K, V), strict=True)
    )
    g_N1 = -rates(c, ctx.layer)[:, None]
    o_BTNV, after = dispatch("linear_scan", c.implementation)(
      q,
      k,
      v,
      jnp.broadcast_to(g_N1, (*x_BTD.shape[:2], N, 1)),
      starts_BT,
      state["state"],
    )
    o_BTNV = HeadNorm(c, scale="each", over=N, name="norm")(o_BTNV)
    gate_BTNV = self.by_head(x_BTD, "gate", V, to_branch=True)
    o_BTNV *= jax.nn.sigmoid(gate_BTNV.astype(jnp.float32))
    return self.out(o_BTNV), {"state": after}
