"""Paired t tests over seeds, corrected over arms (Holm 1979).

An arm is compared with the baseline by the differences of the runs that share a
seed: the same initial weights where shapes agree and the same order of data, so
that what a seed does to both goes out. The paired t test decides, with Holm's
correction over the arms, which holds whatever the arms have in common (here:
the baseline). Beside it stand a bootstrap interval (BCa, Efron 1987) and the
sign-flip permutation test (Fisher 1935), which decide nothing.

Where all differences are the same number but not zero (a metric that has
saturated), s = 0 and t does not exist: an infinite t would call two equal seeds
proof. The sign-flip test needs no s, so p is its p, 2 / 2^n: six seeds are then
the fewest that separate an arm at 5 %.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from ..errors import UserError
from .power import effect_size, power, seeds_needed
from .resampling import bootstrap, sign_flip

# In messages.
OUT = "runs that diverged or failed"


@dataclasses.dataclass(frozen=True)
class Summary:
  """One arm over its seeds; low and high are a t interval, nan with n < 2."""

  n: int
  mean: float
  sd: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One arm against the baseline, paired by seed.

  Attributes:
    n: pairs, of the seeds that both have.
    difference: mean of arm - baseline.
    sd: of the differences.
    p: two-sided, of the paired t test.
    p_holm: adjusted over the arms.
    low, high: interval of the difference, of this level: it leaves out 0 if
      and only if the arm is separated. Infinite where all differences are the
      same number and too few to be separated.
    level: that at which Holm decides on this arm, 1 - alpha / (m - k + 1) for
      rank k of m; after the first arm that is not separated, that one's.
    bootstrap: 95 % BCa interval of the difference, for this arm alone; with few
      seeds it is too narrow.
    permutation_p: two-sided sign-flip test, exact up to 14 pairs.
    least_permutation_p: the smallest that it can give for this n.
    effect: d_z by Hedges' correction; nan for 2 pairs, which cannot estimate
      it, infinite where sd is 0 and the difference is not.
    power: that a new experiment of this n, were the effect the true one, would
      separate the arm at Holm's strictest level: a lower bound. nan if effect
      is.
    seeds_needed: for 80 % of it; None if there is no effect or past 10,000.
    separated: p_holm < alpha.
    better: separated, and in the goal's direction.
  """

  n: int
  difference: float
  sd: float
  p: float
  p_holm: float
  low: float
  high: float
  level: float
  bootstrap: tuple[float, float]
  permutation_p: float
  least_permutation_p: float
  effect: float
  power: float
  seeds_needed: int | None
  separated: bool
  better: bool


def summarize(values: Sequence[float], alpha: float = 0.05) -> Summary:
  """Mean, standard deviation and t interval of one arm's values."""
  x = np.asarray(values, float)
  if not np.isfinite(x).all():
    raise UserError(
      f"values={list(values)}: all must be finite; leave out {OUT}"
    )
  n, mean = len(x), float(x.mean()) if len(x) else math.nan
  if n < 2:
    return Summary(n, mean, math.nan, math.nan, math.nan)
  sd = float(x.std(ddof=1))
  half = float(stats.t.isf(alpha / 2, n - 1)) * sd / math.sqrt(n)
  return Summary(n, mean, sd, mean - half, mean + half)


def paired_t(
  differences: Float[np.ndarray, "*arms n"], rounding: float = 0.0
) -> Float[np.ndarray, "*arms"]:
  """Two-sided p of t = mean / (sd / sqrt(n)) for each row of differences.

  Rows whose values differ by no more than `rounding` have no spread; see above
  for their p.
  """
  n = differences.shape[-1]
  mean = differences.mean(-1)
  flat = np.ptp(differences, axis=-1) <= rounding
  # 1 where it is not used, for a division without warnings.
  sd = np.where(flat, 1.0, differences.std(-1, ddof=1))
  p = 2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1)
  of_flat = np.where(abs(mean) <= rounding, 1.0, 2.0 ** (1 - n))
  return np.where(flat, of_flat, p)


def holm(p: Float[np.ndarray, "*sets m"]) -> Float[np.ndarray, "*sets m"]:
  """Step-down adjusted p: the k-th smallest times m - k + 1, then the most of
  it and those before it (Holm 1979)."""
  order = np.argsort(p, axis=-1, kind="stable")
  factors = np.arange(p.shape[-1], 0, -1)
  stepped = np.take_along_axis(p, order, -1) * factors
  stepped = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
  adjusted = np.empty_like(p)
  np.put_along_axis(adjusted, order, stepped, -1)
  return adjusted


def holm_levels(p: Float[np.ndarray, " m"], alpha: float) -> list[float]:
  """The error rate at which each arm was decided; see Comparison.level."""
  order, separated = np.argsort(p, kind="stable"), holm(p) < alpha
  rates, failed = np.empty(len(p)), None
  for rank, i in enumerate(order):
    rates[i] = failed or alpha / (len(p) - rank)
    if not separated[i]:
      failed = rates[i]
  return rates.tolist()


def pairs(
  arm: str, baseline: Mapping[int, float], values: Mapping[int, float]
) -> tuple[Float[np.ndarray, " n"], float]:
  """Differences in the order of seeds, and what of them is rounding."""
  for name, of in (("the baseline", baseline), (f"arm {arm!r}", values)):
    for seed, value in of.items():
      if not math.isfinite(value):
        raise UserError(
          f"{name} has {value} for seed {seed}: values must be finite; leave"
          f" out {OUT}"
        )
  seeds = sorted(baseline.keys() & values.keys())
  if len(seeds) < 2:
    raise UserError(
      f"arm {arm!r} shares {len(seeds)} seed(s) {seeds} with the baseline: a"
      " paired test needs at least 2; run more seeds"
    )
  both = np.array([[values[s], baseline[s]] for s in seeds], float)
  # A difference of two floats is off by up to an ulp of the larger.
  rounding = 4 * np.finfo(float).eps * float(abs(both).max())
  return both[:, 0] - both[:, 1], rounding


def compare(
  baseline: Mapping[int, float],
  arms: Mapping[str, Mapping[int, float]],
  *,
  goal: str = "min",
  alpha: float = 0.05,
) -> dict[str, Comparison]:
  """Tests each arm against the baseline, by the seeds that both have.

  The correction is over exactly these arms: leave out only those that cannot
  be tested at all.

  Args:
    baseline: seed -> value.
    arms: name -> seed -> value, without the baseline.
    goal: min or max, which direction is better.
    alpha: the family-wise error rate, in (0, 1).

  Raises:
    UserError: a value that is not finite, fewer than 2 pairs, a bad argument.
  """
  if goal not in ("min", "max"):
    raise UserError(f"goal={goal!r} is not known; use 'min' or 'max'")
  if not 0 < alpha < 1:
    raise UserError(f"alpha={alpha} must lie between 0 and 1; use 0.05")
  if not arms:
    return {}
  paired = {name: pairs(name, baseline, arms[name]) for name in arms}
  p = np.array([float(paired_t(d, r)) for d, r in paired.values()])
  return {
    name: compare_one(
      *paired[name], float(p[i]), float(adjusted), rate, alpha, len(p), goal
    )
    for i, (name, adjusted, rate) in enumerate(
      zip(paired, holm(p), holm_levels(p, alpha), strict=True)
    )
  }


def compare_one(
  differences: Float[np.ndarray, " n"],
  rounding: float,
  p: float,
  p_holm: float,
  rate: float,
  alpha: float,
  m: int,
  goal: str,
) -> Comparison:
  """What is to be said of one arm, once Holm has given its p and its rate."""
  n, mean = len(differences), float(differences.mean())
  separated = p_holm < alpha
  least = 2.0 ** (1 - n)
  if np.ptp(differences) > rounding:
    sd = float(differences.std(ddof=1))
    half = float(stats.t.isf(rate / 2, n - 1)) * sd / math.sqrt(n)
    effect = effect_size(differences)
    planned = power(effect, n, alpha / m)
    needed = seeds_needed(effect, alpha / m)
    resampled = bootstrap(differences)
    permutation_p, least = sign_flip(differences)
  elif abs(mean) <= rounding:
    mean = sd = half = effect = 0.0
    planned, needed, permutation_p = alpha / m, None, 1.0
    resampled = (mean, mean)
  else:
    # Another such experiment would again be decided by the sign-flip test.
    sd, effect = 0.0, math.copysign(math.inf, mean)
    half = 0.0 if separated else math.inf
    planned = float(least < alpha / m)
    needed = math.floor(1 + math.log2(m / alpha)) + 1
    resampled, permutation_p = (mean, mean), least
  return Comparison(
    n=n,
    difference=mean,
    sd=sd,
    p=p,
    p_holm=p_holm,
    low=mean - half,
    high=mean + half,
    level=1 - rate,
    bootstrap=resampled,
    permutation_p=permutation_p,
    least_permutation_p=least,
    effect=effect,
    power=planned,
    seeds_needed=needed,
    separated=separated,
    better=separated and (mean < 0 if goal == "min" else mean > 0),
  )
