"""Sign-flip test (Fisher 1935) and BCa bootstrap (Efron 1987) of pairs.

Both look at one arm alone and are the same each time: their random numbers do
not depend on anything but the number of draws.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

# All 2^n sign flips up to this n; of more pairs, RESAMPLES are drawn.
EXACT_PAIRS = 14
RESAMPLES = 9_999
LEVEL = 0.95


def sign_flip(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
  """Two-sided p of the sign-flip test, and the smallest that n could give.

  If an arm does nothing, each difference is as likely to be negative as
  positive. All 2^n choices are tried up to EXACT_PAIRS pairs, so that p is at
  least 2 / 2^n: 0.25 with 3 seeds, whatever they show.
  """
  exact = len(differences) <= EXACT_PAIRS
  tried = 2 ** len(differences) if exact else RESAMPLES
  found = stats.permutation_test(
    (differences,),
    np.mean,
    permutation_type="samples",
    n_resamples=tried,  # 2^n or more tries all
    rng=np.random.default_rng(0),
  )
  return float(found.pvalue), 2 / (tried if exact else tried + 1)


def bootstrap(differences: Float[np.ndarray, " n"]) -> tuple[float, float]:
  """BCa interval of the mean (Efron 1987).

  A sample of n values has a variance (n - 1) / n too small, which BCa keeps:
  under about 10 pairs the interval is too narrow.
  """
  low, high = stats.bootstrap(
    (differences,),
    np.mean,
    n_resamples=RESAMPLES,
    confidence_level=LEVEL,
    method="BCa",
    rng=np.random.default_rng(0),
  ).confidence_interval
  return float(low), float(high)
