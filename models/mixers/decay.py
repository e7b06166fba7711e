"""Initial values of what makes a state decay (Gu and Dao 2023, 2312.00752)."""

import functools
import math

import jax
import jax.numpy as jnp

from ..param import Init


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
