"""minGRU (Feng et al. 2024, arXiv:2410.01201)."""

import dataclasses

import jax
import jax.numpy as jnp

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ...parallel.rules import constrain
from ..linear import Projection
from .recurrence import Leaf, Recurrence


@dataclasses.dataclass(frozen=True)
class Options:
  expand: int = 1  # hidden units, times model.d_model

  def __post_init__(self):
    if self.expand < 1:
      raise UserError(f"expand={self.expand} must be at least 1")


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
    c, D = self.config, self.config.d_model
    E = self.options(c).expand * D

    def into(name):
      axes = ("embed", "ff")
      project = Projection(c, "BTD,DE->BTE", (D, E), axes, name=name)
      return constrain(project(x_BTD), "batch", "seq", "ff").astype(jnp.float32)

    w_BTE, z_BTE = into("candidate"), into("gate")
    g_BTE = jnp.where(w_BTE >= 0, w_BTE + 0.5, jax.nn.sigmoid(w_BTE))
    h_BTE, after = dispatch("diagonal_scan", c.implementation)(
      jax.nn.sigmoid(-z_BTE),
      jax.nn.sigmoid(z_BTE) * g_BTE,
      starts_BT,
      state["state"],
    )
    axes = ("ff", "embed")
    out = Projection(c, "BTE,ED->BTD", (E, D), axes, to_residual=True, name="o")
    return out(h_BTE.astype(x_BTD.dtype)), {"state": after}
