"""The machine's matmul speed, measured: what a step is compared with."""

import functools
import time

import jax
import jax.numpy as jnp


@functools.cache
def matmul_peak(dtype: str, size: int = 0) -> float:
  """FLOP/s of a square matmul on one device, the best of several runs.

  Args:
    size: rows and columns; 0: 2048 on a CPU, 8192 elsewhere.
  """
  size = size or (2048 if jax.default_backend() == "cpu" else 8192)
  x = jnp.ones((size, size), dtype)
  matmul = jax.jit(lambda a, b: a @ b)
  matmul(x, x).block_until_ready()
  best = float("inf")
  for _ in range(5):
    start = time.perf_counter()
    matmul(x, x).block_until_ready()
    best = min(best, time.perf_counter() - start)
  return 2 * size**3 / best


def machine_peak(dtype: str) -> float:
  """FLOP/s of all devices. CPU devices share the cores: they count once."""
  n = 1 if jax.default_backend() == "cpu" else jax.device_count()
  return n * matmul_peak(dtype)
