"""Simulated ablations: how often the test is wrong, how often it finds."""

import numpy as np
import pytest
from scipy import stats

from ablax.ablate.power import power
from ablax.ablate.statistics import compare, holm, paired_t

ALPHA, REPEATS = 0.05, 2_000


def ablations(seeds, arms, effects=0.0, key=0):
  """[repeat, arm, seed] differences from one baseline, as runs give them.

  What a seed does to all runs is ten times what a run does by itself, arms
  resemble each other, and all share the baseline. The differences have a
  standard deviation of 1, so that an effect is the d_z that power takes.
  """
  rng = np.random.default_rng([key, seeds, arms])
  of_seed = 10 * rng.standard_normal((REPEATS, 1, seeds))
  alike = rng.standard_normal((REPEATS, 1, seeds)) / 2
  of_run = rng.standard_normal((REPEATS, arms, seeds)) / 2
  baseline = rng.standard_normal((REPEATS, 1, seeds)) * np.sqrt(1 / 2)
  effects = np.broadcast_to(effects, arms)[:, None]
  runs = 5.0 + of_seed + alike + of_run + effects
  return runs, 5.0 + of_seed + baseline


def separated(runs, baseline):
  return holm(paired_t(runs - baseline)) < ALPHA


def binomial(probability, quantile):
  return stats.binom.ppf(quantile, REPEATS, probability)


@pytest.mark.parametrize("arms", [1, 3, 5])
@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_arms_that_do_nothing_are_separated_in_at_most_5_percent(seeds, arms):
  wrong = separated(*ablations(seeds, arms)).any(1).sum()
  assert wrong <= binomial(ALPHA, 0.99)
  if arms == 1:  # One t test is wrong in just 5 %, not in fewer.
    assert wrong >= binomial(ALPHA, 0.01)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_an_arm_that_does_something_leaves_the_rate_of_the_others(seeds):
  found = separated(*ablations(seeds, 4, effects=[20.0, 0, 0, 0]))
  assert found[:, 0].mean() > 0.99
  assert found[:, 1:].any(1).sum() <= binomial(ALPHA, 0.99)


@pytest.mark.parametrize(
  ("seeds", "effect"), [(3, 2.0), (3, 4.0), (5, 1.5), (8, 0.6), (8, 1.2)]
)
def test_one_arm_is_found_as_often_as_power_says(seeds, effect):
  predicted = power(effect, seeds, ALPHA)
  found = separated(*ablations(seeds, 1, effects=-effect, key=1)).sum()
  assert binomial(predicted, 0.005) <= found <= binomial(predicted, 0.995)


@pytest.mark.parametrize("arms", [3, 5])
@pytest.mark.parametrize(("seeds", "effect"), [(3, 6.0), (5, 2.0), (8, 1.2)])
def test_among_arms_each_is_found_at_least_as_often(seeds, effect, arms):
  predicted = power(effect, seeds, ALPHA / arms)
  found = separated(*ablations(seeds, arms, effects=effect, key=1)).sum(0)
  assert (found >= binomial(predicted, 0.01)).all()
  # One that does something among others that do not: Holm's strictest level,
  # and no more than that of the test without a correction.
  effects = np.zeros(arms)
  effects[-1] = effect
  alone = separated(*ablations(seeds, arms, effects, key=2))[:, -1].sum()
  assert binomial(predicted, 0.005) <= alone
  assert alone <= binomial(power(effect, seeds, ALPHA), 0.995)


def test_compare_decides_as_the_simulations_do():
  runs, baseline = ablations(5, 3, effects=[0.0, 1.0, 2.0], key=3)
  decided = separated(runs, baseline)
  for i in range(20):
    report = compare(
      dict(enumerate(baseline[i, 0])),
      {str(a): dict(enumerate(runs[i, a])) for a in range(3)},
    )
    assert [c.separated for c in report.values()] == decided[i].tolist()
  assert 0 < decided[:20].sum() < 60
