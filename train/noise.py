"""Gradient noise scale (McCandlish et al. 2018, arXiv:1812.06162, appendix A).

B = tr(S) / |G|^2, in tokens: the batch size at which noise and gradient are
equally large. Below it, twice the batch takes nearly half the updates; far
above it, the additional tokens are wasted.

The gradients of microbatches are the small batches, their mean is the big one.
With microbatches of w_i tokens, W in all, and a variance of S / w,

  E sum_i w_i |g_i|^2 / W = |G|^2 + n S / W    (n: those with w_i > 0)
  E |g|^2                 = |G|^2 + S / W,

whatever the w_i: two equations for unbiased estimates of |G|^2 and S (those of
the paper where all w_i are equal). Tokens of one row are not independent; S is
then the variance of rows, divided by their length.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

# Share of the newest update in the running means; at first they are plain.
RATE = 0.01


def estimates(
  mean_square: Float[Array, ""],
  n: Float[Array, ""],
  square: Float[Array, ""],
  weight: Float[Array, ""],
) -> dict[str, Array]:
  """Unbiased estimates of |G|^2 and of tr(S), from one update.

  Args:
    mean_square: of the microbatches' gradients, sum_i w_i |g_i|^2 / W.
    n: microbatches of positive weight; with fewer than two, both are NaN.
    square: of the whole batch's gradient.
    weight: W, in tokens.
  """
  trace = weight * (mean_square - square) / jnp.where(n > 1, n - 1, jnp.nan)
  return {"noise/square": square - trace / weight, "noise/trace": trace}


class NoiseScale:
  """Running means of both estimates, whose ratio is B.

  Each estimate alone may be negative, and their ratio has no mean: they are
  averaged first (appendix A.1).

  Args:
    state: `state()` of an earlier part of the run, to go on from.
  """

  def __init__(self, state: Mapping[str, float | int] | None = None):
    means: dict[str, Any] = {"noise/square": 0.0, "noise/trace": 0.0}
    means |= state or {}
    self._seen = int(means.pop("seen", 0))
    self._means = means

  def state(self) -> dict[str, float | int]:
    return {"seen": self._seen, **self._means}

  def update(self, metrics: dict[str, Any]) -> None:
    """Puts the running means, and their ratio, in place of the estimates."""
    new = {k: metrics.pop(k) for k in self._means}
    if all(map(math.isfinite, new.values())):
      self._seen += 1
      rate = max(1 / self._seen, RATE)
      for k, value in new.items():
        self._means[k] += rate * (value - self._means[k])
    if self._seen:
      metrics |= self._means
      square, trace = self._means.values()
      if square > 0:
        metrics["noise_scale"] = trace / square
