"""minGRU (Feng et al. 2024, arXiv:2410.01201)."""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import at_least
from ...kernels.dispatch import dispatch
from .recurrence import CHANNELS, Leaf, Recurrence


@dataclasses.dataclass(frozen=True)
class Options:
  expand: int = 1  # hidden units, times model.d_model

  def __post_init__(self):
    at_least(1, self, "expand")


class MinGRU(Recurrence):
  """h = (1 - z) h + z g(w), gate and candidate of the input alone.

  g(w) = w + 1/2 from 0 on and sigmoid(w) below: it is positive, as the paper's
  form in logarithms wants it (appendix B).
  """

  word = "min_gru"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    return {"state": Leaf((cls.options(config).expand * config.d_model,))}

  def mix(self, x_BTD, ctx, starts_BT, state):
    c = self.config
    E = self.options(c).expand * c.d_model

    w_BTE, z_BTE = (
      self.into(x_BTD, name, (E,), CHANNELS).astype(jnp.float32)
      for name in ("candidate", "gate")
    )
    g_BTE = jnp.where(w_BTE >= 0, w_BTE + 0.5, jax.nn.sigmoid(w_BTE))
    h_BTE, after = dispatch("diagonal_scan", c.implementation)(
      jax.nn.sigmoid(-z_BTE),
      jax.nn.sigmoid(z_BTE) * g_BTE,
      starts_BT,
      state["state"],
    )
    return self.out(h_BTE), {"state": after}
