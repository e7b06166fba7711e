"""DeltaNet (Schlag et al. 2021, arXiv:2102.11174; by chunks 2406.06484)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import at_least
from ...kernels.dispatch import dispatch
from ..linear import Projection
from .recurrence import (
  HeadNorm,
  HeadOptions,
  HeadRecurrence,
  Leaf,
  ShortConv,
  unit,
)


@dataclasses.dataclass(frozen=True)
class Options(HeadOptions):
  conv: int = 4  # tokens of the convolutions of q, k and v; 1: the token's own
  # Written times 2 sigmoid, so that I - beta k k^T may turn a direction round
  # (Grazzi et al. 2024, arXiv:2411.12537), and not once sigmoid.
  negative_eigenvalues: bool = False

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "conv")


class DeltaNet(HeadRecurrence):
  """A state that is told the values which its keys do not give yet."""

  word = "delta_net"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    W, (K, V) = cls.options(config).conv - 1, cls.sizes(config)
    N, dtype = config.n_heads, config.compute_dtype
    convs = {"q": K, "k": K, "v": V}
    return super().leaves(config) | {
      f"conv_{name}": Leaf((W, N, size), dtype) for name, size in convs.items()
    }

  def log_decay(self, x_BTD: Array) -> Float[Array, "B T N 1"]:
    """Of the state at each token: here it keeps all."""
    return jnp.zeros((*x_BTD.shape[:2], self.config.n_heads, 1), jnp.float32)

  def gated(
    self, x_BTD: Array, o_BTNV: Float[Array, "B T N V"]
  ) -> Float[Array, "B T N V"]:
    """What the heads found times a gate: here there is none."""
    del x_BTD
    return o_BTNV

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    K, V = self.sizes(c)
    N, kept, found = c.n_heads, {}, {}
    for name, size in (("q", K), ("k", K), ("v", V)):
      y = self.by_head(x_BTD, name, size, to_branch=name == "v")
      axes = ("heads", "head_dim")
      conv = ShortConv(c, o.conv, (N, size), axes, name=f"conv_{name}")
      y, kept[f"conv_{name}"] = conv(y, starts_BT, state[f"conv_{name}"])
      found[name] = jax.nn.silu(y)
    q_BTNK, k_BTNK = unit(found["q"]) * K**-0.5, unit(found["k"])
    into = (c, "BTD,DN->BTN", (c.d_model, N), ("embed", "heads"))
    beta_BTN = Projection(*into, bias=False, name="beta")(x_BTD)
    beta_BTN1 = jax.nn.sigmoid(beta_BTN.astype(jnp.float32))[..., None]
    if o.negative_eigenvalues:
      beta_BTN1 *= 2
    g_BTN1 = self.log_decay(x_BTD)
    written_BTNK = beta_BTN1 * k_BTNK
    o_BTNV, after = dispatch("delta_rule", c.implementation)(
      q_BTNK,
      written_BTNK,
      found["v"],
      g_BTN1,
      -jnp.exp(g_BTN1) * k_BTNK,
      written_BTNK,
      starts_BT,
      state["state"],
    )
    o_BTNV = self.gated(x_BTD, HeadNorm(c, name="norm")(o_BTNV))
    return self.out(o_BTNV), {"state": after, **kept}
