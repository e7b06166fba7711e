"""What makes a state decay, and its initial values (arXiv:2312.00752)."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..config import ModelConfig
from ..linear import Projection
from ..param import Init, declare


@functools.cache
def inverse_softplus_of_steps(least: float, most: float) -> Init:
  """b with softplus(b) log-uniform between `least` and `most`."""

  def init(key, shape, dtype):
    logs = jax.random.uniform(key, shape, jnp.float32)
    logs = logs * (math.log(most) - math.log(least)) + math.log(least)
    steps = jnp.maximum(jnp.exp(logs), 1e-4)
    return (steps + jnp.log(-jnp.expm1(-steps))).astype(dtype)

  return init


@functools.cache
def log_of_rates(least: float, most: float) -> Init:
  """log A with A uniform between `least` and `most`."""

  def init(key, shape, dtype):
    rates = jax.random.uniform(key, shape, jnp.float32, least, most)
    return jnp.log(jnp.maximum(rates, 1e-3)).astype(dtype)

  return init


def log_of_counts(key, shape, dtype):
  """log of 1, 2, ..., N along the last axis: S4D's real initial rates."""
  del key
  counts = jnp.arange(1, shape[-1] + 1, dtype=jnp.float32)
  return jnp.broadcast_to(jnp.log(counts), shape).astype(dtype)


class Steps(nn.Module):
  """Each head's step dt = softplus(W x + b), and its log decay -A dt.

  Attributes:
    heads: N.
    least, most: bounds of A, which starts uniform between them.
    multiplier: of W x.
  """

  config: ModelConfig
  heads: int
  least: float
  most: float
  multiplier: float = 1.0

  @nn.compact
  def __call__(
    self, x_BTD: Float[Array, "B T D"]
  ) -> tuple[Float[Array, "B T N 1"], Float[Array, "B T N 1"]]:
    c, N = self.config, self.heads
    into = (c, "BTD,DN->BTN", (c.d_model, N), ("embed", "heads"))
    raw_BTN = Projection(*into, bias=False, name="step")(x_BTD)
    raw_BTN *= self.multiplier
    shape, axes, dtype = (N,), ("heads",), c.param_dtype
    steps = inverse_softplus_of_steps(1e-3, 1e-1)
    bias_N = declare(self, "bias", steps, shape, axes, dtype)
    rates = log_of_rates(self.least, self.most)
    log_rate_N = declare(self, "log_rate", rates, shape, axes, dtype)
    dt_BTN = jax.nn.softplus(raw_BTN.astype(jnp.float32) + bias_N)
    g_BTN = -jnp.exp(log_rate_N.astype(jnp.float32)) * dt_BTN
    return dt_BTN[..., None], g_BTN[..., None]
