"""Power of the paired t test (Cohen 1988; noncentral t distribution).

Of n paired differences with mean d and standard deviation s, t = d sqrt(n) / s
follows the noncentral t distribution with n - 1 degrees of freedom and
noncentrality delta sqrt(n), where delta = d / s is the standardized effect.

A power that is computed from the effect that the same data showed says no more
about those data than their p does (Hoenig and Heisey 2001): read it for the
next experiment, where the number of seeds is still to be chosen.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import special, stats

MOST_SEEDS = 10_000


def hedges_correction(df: int) -> float:
  """J(df), which takes the bias out of d / s (Hedges 1981, eq. 6e).

  J = Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2)). With one degree of freedom
  d / s has no mean, so that nothing corrects it: nan.
  """
  if df < 2:
    return math.nan
  log_ratio = special.gammaln(df / 2) - special.gammaln((df - 1) / 2)
  return float(math.exp(log_ratio) / math.sqrt(df / 2))


def effect_size(differences: Float[np.ndarray, " n"]) -> float:
  """Standardized mean difference of pairs, d_z, by Hedges' correction."""
  sd = differences.std(ddof=1)
  correction = hedges_correction(len(differences) - 1)
  return float(correction * differences.mean() / sd)


def power(effect: float, n: int, alpha: float = 0.05) -> float:
  """The probability that the two-sided paired t test of n pairs rejects.

  Args:
    effect: the true d_z; its sign does not matter.
    n: pairs, at least 2.
    alpha: level of this one test. Among m arms Holm tests each at alpha / m or
      more, so alpha / m gives a lower bound.
  """
  df, noncentrality = n - 1, abs(effect) * math.sqrt(n)
  critical = stats.t.isf(alpha / 2, df)
  # scipy gives nan for a lower tail below about 1e-15.
  wrong_sign = np.nan_to_num(stats.nct.cdf(-critical, df, noncentrality))
  return float(stats.nct.sf(critical, df, noncentrality) + wrong_sign)


def seeds_needed(
  effect: float, alpha: float = 0.05, target: float = 0.8
) -> int | None:
  """The least n whose power reaches the target; None past MOST_SEEDS."""
  if not math.isfinite(effect) or power(effect, MOST_SEEDS, alpha) < target:
    return None
  # Power grows with n, so halving finds the first that is enough.
  low, high = 1, MOST_SEEDS
  while high - low > 1:
    middle = (low + high) // 2
    if power(effect, middle, alpha) < target:
      low = middle
    else:
      high = middle
  return high
