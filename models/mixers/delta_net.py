"""DeltaNet (Schlag et al. 2021, arXiv:2102.11174; by chunks 2406.06484)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...errors import UserError, at_least
from ...kernels.dispatch import dispatch
from ..config import ModelConfig
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
  n_heads: int = 0  # with values and states; 0: model.n_heads
  # With queries and keys, each for so many neighbours of those heads as there
  # are times more (Qwen3-Next's); 0: as many.
  n_key_heads: int = 0
  conv: int = 4  # tokens of the convolutions of q, k and v; 1: the token's own
  # Written times 2 sigmoid, so that I - beta k k^T may turn a direction round
  # (Grazzi et al. 2024, arXiv:2411.12537), and not once sigmoid.
  negative_eigenvalues: bool = False

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "conv")
    for key in ("n_heads", "n_key_heads"):
      if getattr(self, key) < 0:
        raise UserError(
          f"{key}={getattr(self, key)} must be positive, or 0 for its default"
        )


class DeltaNet(HeadRecurrence):
  """A state that is told the values which its keys do not give yet."""

  word = "delta_net"
  option_type = Options

  @classmethod
  def heads(cls, config: ModelConfig) -> tuple[int, int]:
    """G heads with queries and keys, N with values."""
    o = cls.options(config)
    N = o.n_heads or config.n_heads
    return o.n_key_heads or N, N

  @classmethod
  def check(cls, config):
    G, N = cls.heads(config)
    if N % G:
      raise UserError(
        f"model.opts.{cls.word}.n_key_heads={G} does not divide its {N} heads;"
        f" use a divisor of {N}, or 0 for as many"
      )

  @classmethod
  def shapes(cls, config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Heads, and the numbers of each, of queries, keys and values."""
    (G, N), (K, V) = cls.heads(config), cls.sizes(config)
    return {"q": (G, K), "k": (G, K), "v": (N, V)}

  @classmethod
  def leaves(cls, config):
    taps, dtype = cls.options(config).conv - 1, config.compute_dtype
    convs = {
      f"conv_{name}": Leaf((taps, *shape), dtype)
      for name, shape in cls.shapes(config).items()
    }
    return convs | {"state": Leaf((cls.heads(config)[1], *cls.sizes(config)))}

  def log_decay(self, x_BTD: Array) -> Float[Array, "B T N 1"]:
    """Of the state at each token: here it keeps all."""
    N = self.heads(self.config)[1]
    return jnp.zeros((*x_BTD.shape[:2], N, 1), jnp.float32)

  def gated(
    self, x_BTD: Array, o_BTNV: Float[Array, "B T N V"]
  ) -> Float[Array, "B T N V"]:
    """What the heads found times a gate: here there is none."""
    del x_BTD
    return o_BTNV

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o = self.config, self.options(self.config)
    (G, N), (K, _) = self.heads(c), self.sizes(c)
    kept, found = {}, {}
    for name, shape in self.shapes(c).items():
      axes = ("heads" if shape[0] == N else "kv_heads", "head_dim")
      y = self.into(x_BTD, name, shape, axes, to_branch=name == "v")
      conv = ShortConv(c, o.conv, shape, axes, name=f"conv_{name}")
      y, kept[f"conv_{name}"] = conv(y, starts_BT, state[f"conv_{name}"])
      found[name] = jax.nn.silu(y)
    q_BTNK, k_BTNK = (
      jnp.repeat(unit(found[name]), N // G, axis=2) for name in "qk"
    )
    q_BTNK *= K**-0.5
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
