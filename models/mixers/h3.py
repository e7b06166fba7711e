"""H3: hungry hungry hippos (Fu et al. 2022, arXiv:2212.14052).

Keys pass a state space that shifts, which is a convolution over its last
inputs; their products with the values a diagonal one; queries gate what comes
out. Heads are single channels, as in the paper's models.
"""

import dataclasses

import jax.numpy as jnp

from ...errors import at_least
from . import s4d
from .recurrence import CHANNELS, Leaf, Recurrence, ShortConv
from .s4d import DiagonalStates


@dataclasses.dataclass(frozen=True)
class Options(s4d.Options):
  shift: int = 64  # tokens that a key is made of

  def __post_init__(self):
    super().__post_init__()
    at_least(1, self, "shift")


class H3(Recurrence):
  """q times the state space of (shifted k times v)."""

  word = "h3"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    o, D = cls.options(config), config.d_model
    return {
      "state": Leaf((D, 2, o.state // 2)),
      "shift": Leaf((o.shift - 1, D), config.compute_dtype),
    }

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, o, D = self.config, self.options(self.config), self.config.d_model

    q_BTE, k_BTE, v_BTE = (
      self.into(x_BTD, name, (D,), CHANNELS, to_branch=name == "v")
      for name in "qkv"
    )
    shift = ShortConv(c, o.shift, (D,), CHANNELS, name="shift")
    k_BTE, kept = shift(k_BTE, starts_BT, state["shift"])
    states = DiagonalStates(c, D, o.state // 2, name="states")
    y_BTE, after = states(k_BTE * v_BTE, starts_BT, state["state"])
    y_BTD = self.out(q_BTE.astype(jnp.float32) * y_BTE)
    return y_BTD, {"state": after, "shift": kept}
