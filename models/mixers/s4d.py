"""S4D: diagonal state space (Gu et al. 2022, arXiv:2206.11893).

Its decays and inputs are the same for all tokens.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...errors import UserError
from ...kernels.dispatch import dispatch
from ...parallel.rules import constrain
from ..config import ModelConfig
from ..linear import Projection
from ..param import declare, normal, ones
from .recurrence import Leaf, Recurrence


@dataclasses.dataclass(frozen=True)
class Options:
  state: int = 64  # numbers that each channel keeps, two for each complex one

  def __post_init__(self):
    if self.state < 2 or self.state % 2:
      raise UserError(
        f"state={self.state} must be even, and at least 2: a channel's numbers"
        " are pairs"
      )


@functools.cache
def _log_steps(least: float, most: float):
  def init(key, shape, dtype):
    low, high = math.log(least), math.log(most)
    return jax.random.uniform(key, shape, jnp.float32, low, high).astype(dtype)

  return init


def _log_half(key, shape, dtype):
  del key
  return jnp.full(shape, math.log(0.5), dtype)


def _frequencies(key, shape, dtype):
  """pi n: S4D-Lin."""
  del key
  n = math.pi * jnp.arange(shape[-1], dtype=jnp.float32)
  return jnp.broadcast_to(n, shape).astype(dtype)


class DiagonalStates(nn.Module):
  """y = 2 Re(C h) + D u of h' = A h + u, whose u is constant for a step.

  A = -exp(log_rate) + i frequency; the real and the imaginary part of a state
  are the last axis but one of `state`.

  Attributes:
    channels: E.
    pairs: complex numbers of each, P.
  """

  config: ModelConfig
  channels: int
  pairs: int

  @nn.compact
  def __call__(
    self,
    u_BTE: Float[Array, "B T E"],
    starts_BT: Bool[Array, "B T"],
    state_BE2P: Float[Array, "B E 2 P"],
  ) -> tuple[Float[Array, "B T E"], Float[Array, "B E 2 P"]]:
    c, E, P = self.config, self.channels, self.pairs
    axes = ("ff", "latent")

    def made(name, init, shape=(E, P), axes=axes):
      value = declare(self, name, init, shape, axes, c.param_dtype)
      return value.astype(jnp.float32)

    log_dt_E = made("log_step", _log_steps(1e-3, 1e-1), (E,), ("ff",))
    a_EP = jax.lax.complex(
      -jnp.exp(made("log_rate", _log_half)),
      made("frequency", _frequencies),
    )
    c_EP = jax.lax.complex(
      *(made(f"c_{part}", normal(0.5**0.5)) for part in ("real", "imaginary"))
    )
    decay_EP = jnp.exp(jnp.exp(log_dt_E)[:, None] * a_EP)
    u_BTE = u_BTE.astype(jnp.float32)
    into_BTEP = ((decay_EP - 1) / a_EP) * u_BTE[..., None]
    h_BTEP, after = dispatch("diagonal_scan", c.implementation)(
      jnp.broadcast_to(decay_EP, into_BTEP.shape),
      into_BTEP,
      starts_BT,
      jax.lax.complex(state_BE2P[:, :, 0], state_BE2P[:, :, 1]),
    )
    y_BTE = 2 * (c_EP * h_BTEP).sum(-1).real
    y_BTE += made("skip", ones, (E,), ("ff",)) * u_BTE
    return y_BTE, jnp.stack([after.real, after.imag], axis=2)


class S4D(Recurrence):
  """A state space of each channel, gelu, and a gated linear map."""

  word = "s4d"
  option_type = Options

  @classmethod
  def leaves(cls, config):
    P = cls.options(config).state // 2
    return {"state": Leaf((config.d_model, 2, P))}

  def mix(self, x_BTD, ctx, starts_BT, state):
    c, D = self.config, self.config.d_model
    P = self.options(c).state // 2
    states = DiagonalStates(c, D, P, name="states")
    y_BTD, after = states(x_BTD, starts_BT, state["state"])
    y_BTD = jax.nn.gelu(y_BTD).astype(x_BTD.dtype)
    axes = ("embed", "ff")

    def out(name):
      into = (c, "BTD,DE->BTE", (D, D), axes)
      return Projection(*into, to_residual=True, name=name)(y_BTD)

    gated_BTD = out("o") * jax.nn.sigmoid(out("gate"))
    return constrain(gated_BTD, "batch", "seq", "embed"), {"state": after}
