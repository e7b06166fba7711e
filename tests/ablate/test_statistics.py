"""Paired tests, Holm, power and resampling against scipy and statsmodels."""

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats

from ablax.ablate.power import hedges_correction, power, seeds_needed
from ablax.ablate.resampling import bootstrap, sign_flip
from ablax.ablate.statistics import compare, holm, paired_t, summarize
from ablax.errors import UserError

DIFFERENCES = [0.031, 0.012, 0.044, 0.020, -0.003, 0.027]
BASELINE = {3: 2.5, 1: 2.1, 4: 2.9, 2: 2.2, 0: 2.0, 5: 2.7}


def arm(differences, baseline=BASELINE):
  seeds = sorted(baseline)
  return {s: baseline[s] + d for s, d in zip(seeds, differences, strict=False)}


def one(differences, **options):
  return compare(BASELINE, {"arm": arm(differences)}, **options)["arm"]


def some_arms(rng, m=4):
  sizes = rng.normal(0, 0.05, m)
  return {str(i): arm(rng.normal(sizes[i], 0.03, 6)) for i in range(m)}


def test_a_summary_has_the_t_interval_of_scipy():
  found = summarize(DIFFERENCES)
  x = np.array(DIFFERENCES)
  low, high = stats.t.interval(0.95, 5, x.mean(), stats.sem(x))
  assert found.n == 6
  np.testing.assert_allclose(
    [found.mean, found.sd, found.low, found.high],
    [x.mean(), np.std(x, ddof=1), low, high],
    rtol=1e-12,
  )


def test_a_summary_of_one_value_has_no_spread():
  found = summarize([1.5])
  assert (found.n, found.mean) == (1, 1.5)
  assert all(map(math.isnan, (found.sd, found.low, found.high)))
  assert math.isnan(summarize([]).mean)


def test_one_arm_is_the_paired_t_test_of_scipy():
  found = one(DIFFERENCES)
  both = [(arm(DIFFERENCES)[s], BASELINE[s]) for s in BASELINE]
  expected = stats.ttest_rel(*np.transpose(both))
  interval = expected.confidence_interval(0.95)
  np.testing.assert_allclose(
    [found.p, found.p_holm, found.low, found.high],
    [expected.pvalue, expected.pvalue, interval.low, interval.high],
    rtol=1e-9,
  )
  # statsmodels 0.15 DescrStatsW(DIFFERENCES): ttest_mean(0), tconfint_mean
  np.testing.assert_allclose(
    [found.p, found.low, found.high],
    [0.021642890217844102, 0.004789559417176098, 0.03887710724949057],
    rtol=1e-9,
  )
  assert found.level == pytest.approx(0.95)
  assert found.n == 6
  np.testing.assert_allclose(found.sd, 0.016240894885032248, rtol=1e-9)


def test_holm_is_that_of_statsmodels():
  # statsmodels 0.15 multipletests(p, method="holm")
  p = np.array(
    [[0.011, 0.04, 0.0009, 0.03, 0.02], [0.3, 0.004, 0.9, 0.9, 0.01]]
  )
  expected = [[0.044, 0.06, 0.0045, 0.06, 0.06], [0.9, 0.02, 1.0, 1.0, 0.04]]
  np.testing.assert_allclose(holm(p), expected, rtol=1e-12)


def test_the_interval_leaves_out_0_if_and_only_if_the_arm_is_separated():
  rng = np.random.default_rng(0)
  seen = set()
  for _ in range(40):
    for found in compare(BASELINE, some_arms(rng)).values():
      assert (found.low > 0 or found.high < 0) == found.separated
      assert (found.p_holm < 0.05) == found.separated
      assert found.low < found.difference < found.high
      seen.add((round(1 / (1 - found.level) / 20), found.separated))
  # Levels 1 - 0.05 / k of every k, with and without separation.
  assert seen == set(itertools.product([1, 2, 3, 4], [True, False]))


def test_after_the_first_arm_that_fails_all_have_its_level():
  arms = {
    "third": arm([0.1, -0.1, 0.05, -0.04, 0.2, -0.1]),
    "first": arm([0.11, 0.10, 0.09, 0.10, 0.12, 0.1]),
    "second": arm([0.1, -0.02, 0.1, 0.1, 0.01, 0.0]),
  }
  found = compare(BASELINE, arms)
  assert list(found) == ["third", "first", "second"]
  levels = [found[a].level for a in ("first", "second", "third")]
  np.testing.assert_allclose(levels, [1 - 0.05 / 3, 0.975, 0.975])
  assert [found[a].separated for a in found] == [False, True, False]


@pytest.mark.parametrize(("goal", "sign"), [("min", -1), ("max", 1)])
def test_better_follows_the_goal(goal, sign):
  right = one([sign * d for d in DIFFERENCES], goal=goal)
  wrong = one([-sign * d for d in DIFFERENCES], goal=goal)
  assert (right.separated, right.better) == (True, True)
  assert (wrong.separated, wrong.better) == (True, False)
  assert not one([0.1, -0.1, 0.2], goal=goal).better


# statsmodels 0.15 TTestPower().power(effect, n, alpha), two-sided
POWERS = [
  (0.5, 5, 0.05, 0.140516689990298),
  (0.8, 8, 0.05, 0.4963820462438341),
  (1.2, 8, 0.0125, 0.5579286366908199),
  (2.0, 3, 0.05, 0.4707494312784346),
  (3.0, 5, 0.01, 0.8947142418520222),
  (0.3, 90, 0.05, 0.8037942968932215),
]


@pytest.mark.parametrize(("effect", "n", "alpha", "expected"), POWERS)
def test_power_is_that_of_statsmodels(effect, n, alpha, expected):
  # Theirs leaves out the far tail for some arguments: 1e-6.
  assert power(effect, n, alpha) == pytest.approx(expected, abs=1e-6)
  assert power(-effect, n, alpha) == power(effect, n, alpha)


def test_power_without_an_effect_is_the_level_and_of_a_huge_one_is_1():
  assert power(0.0, 7, 0.03) == pytest.approx(0.03)
  assert power(1e4, 3, 0.05) == pytest.approx(1.0)


# statsmodels 0.15 TTestPower().solve_power(effect, None, alpha, 0.8), up
@pytest.mark.parametrize(
  ("effect", "alpha", "expected"),
  [
    (0.2, 0.05, 199),
    (0.5, 0.05, 34),
    (0.8, 0.0125, 21),
    (-1.5, 0.01, 9),
    (3.0, 0.05, 4),
    (0.05, 0.05, 3142),
    (0.01, 0.05, None),
    (0.0, 0.05, None),
    (math.nan, 0.05, None),
  ],
)
def test_seeds_needed_are_those_of_statsmodels(effect, alpha, expected):
  assert seeds_needed(effect, alpha) == expected


def test_a_comparison_plans_at_the_strictest_level_of_its_arms():
  found = compare(BASELINE, {str(i): arm(DIFFERENCES) for i in range(4)})["0"]
  d_z = np.mean(DIFFERENCES) / np.std(DIFFERENCES, ddof=1)
  # Hedges 1981 table 1 has J(5) = .8408
  assert found.effect == pytest.approx(0.8408 * d_z, rel=1e-4)
  assert found.power == power(found.effect, 6, 0.05 / 4)
  assert found.seeds_needed == seeds_needed(found.effect, 0.05 / 4)


def test_the_effect_size_has_no_bias():
  rng = np.random.default_rng(0)
  x = rng.normal(0.7, 1.0, (200_000, 5))
  d_z = hedges_correction(4) * x.mean(1) / x.std(1, ddof=1)
  assert abs(d_z.mean() - 0.7) < 4 * d_z.std() / math.sqrt(len(d_z))


def test_two_pairs_cannot_tell_the_size_of_an_effect():
  found = one([0.1, 0.3])
  assert math.isnan(found.effect)
  assert math.isnan(found.power)
  assert found.seeds_needed is None
  assert 0 < found.p < 1


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_sign_flip_test_counts_all_choices_of_signs(n):
  d = np.random.default_rng(n).normal(0.5, 1, n)
  sums = [
    abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=n)
  ]
  # The sample itself and its mirror are among them, up to rounding.
  expected = np.mean(np.array(sums) >= abs(d.sum()) * (1 - 1e-12))
  p, least = sign_flip(d)
  assert p == pytest.approx(expected)
  assert least == 2 / 2**n
  assert sign_flip(abs(d))[0] == least


def test_many_pairs_are_flipped_at_random_and_the_same_each_time():
  d = np.random.default_rng(0).normal(0.3, 1, 30)
  p, least = sign_flip(d)
  assert least == 2 / 10_000
  assert p == sign_flip(d)[0]
  # Near the t test: 4 standard errors of 9,999 draws and what is not normal.
  assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)


def test_the_bootstrap_is_that_of_scipy_and_the_same_each_time():
  d = np.random.default_rng(0).gamma(2, 1, 40)
  low, high = bootstrap(d)
  assert (low, high) == bootstrap(d)
  other = stats.bootstrap((d,), np.mean, method="BCa", rng=9)
  # 9,999 draws know a 2.5 % quantile to about 2 % of the interval.
  np.testing.assert_allclose(
    (low, high), other.confidence_interval, atol=0.04 * (high - low)
  )
  # Skewed data: BCa is not symmetric about the mean.
  assert high - d.mean() > 1.05 * (d.mean() - low)


def test_the_order_of_seeds_and_other_arms_change_nothing_of_an_arm():
  rng = np.random.default_rng(1)
  arms = some_arms(rng)
  backwards = {
    name: dict(reversed(values.items())) for name, values in arms.items()
  }
  other = dict(sorted(BASELINE.items()))
  assert compare(BASELINE, arms) == compare(other, backwards)
  alone = compare(BASELINE, {"2": arms["2"]})["2"]
  among = compare(BASELINE, arms)["2"]
  same = ("n", "difference", "sd", "p", "bootstrap", "permutation_p", "effect")
  assert all(getattr(alone, f) == getattr(among, f) for f in same)


def test_only_seeds_of_both_are_paired():
  values = arm(DIFFERENCES)
  del values[2]
  baseline = {s: v for s, v in BASELINE.items() if s != 4}
  found = compare(baseline, {"arm": {**values, 17: 99.0}})["arm"]
  kept = [DIFFERENCES[s] for s in (0, 1, 3, 5)]
  assert found.n == 4
  assert found.difference == pytest.approx(np.mean(kept))
  assert found.p == pytest.approx(stats.ttest_1samp(kept, 0).pvalue)


def test_an_arm_that_is_the_baseline_is_not_separated():
  found = compare(BASELINE, {"arm": dict(BASELINE)})["arm"]
  assert (found.p, found.p_holm, found.permutation_p) == (1, 1, 1)
  assert (found.difference, found.sd, found.effect) == (0, 0, 0)
  assert (found.low, found.high, found.bootstrap) == (0, 0, (0, 0))
  assert found.seeds_needed is None
  assert not found.separated


def test_equal_differences_are_judged_by_their_signs():
  # Equal but for rounding, which is another one above 2.0 than below.
  for n, separated in ((2, False), (5, False), (6, True)):
    found = one([-0.3] * n)
    assert found.p == found.permutation_p == 2 / 2**n
    assert (found.separated, found.sd) == (separated, 0)
    assert found.effect == -math.inf
    assert found.seeds_needed == 6
    assert (found.high < 0) == separated
    assert found.power == separated
  assert not compare(
    BASELINE, {"a": arm([-0.3] * 6), "b": arm([0.1, -0.1, 0.1])}
  )["a"].separated


def test_no_input_gives_a_warning():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for d in ([0, 0, 1], [1, 1], [0, 0], [1, 2], [0, 1e-9], [0, -1e-15, 1]):
      found = compare(BASELINE, {"arm": arm(d), "other": arm([0.1, 0.3])})
      assert not np.isnan(found["arm"].bootstrap).any()


def test_results_are_plain_numbers():
  for value in dataclasses.astuple(one(DIFFERENCES)):
    parts = value if isinstance(value, tuple) else (value,)
    assert all(type(part) in (int, float, bool) for part in parts)


def test_without_arms_there_is_nothing_to_compare():
  assert compare(BASELINE, {}) == {}


@pytest.mark.parametrize(
  ("arms", "options", "message"),
  [
    ({"a": {0: 1.0}}, {}, "arm 'a' shares 1 seed"),
    ({"a": {}}, {}, "at least 2; run more seeds"),
    ({"a": {8: 1.0, 9: 1.0}}, {}, "shares 0 seed"),
    ({"a": {0: 1.0, 1: math.nan}}, {}, "nan for seed 1"),
    ({"a": {0: 1.0, 1: 2.0, 2: math.inf}}, {}, "inf for seed 2"),
    ({"a": {0: 1.0, 1: 2.0}}, {"goal": "most"}, "goal='most'"),
    ({"a": {0: 1.0, 1: 2.0}}, {"alpha": 5.0}, "alpha=5.0"),
  ],
)
def test_what_cannot_be_tested_is_refused(arms, options, message):
  with pytest.raises(UserError, match=message):
    compare(BASELINE, arms, **options)


def test_values_that_are_not_finite_are_refused():
  with pytest.raises(UserError, match="the baseline has nan for seed 1"):
    compare({0: 1.0, 1: math.nan}, {"a": {0: 1.0, 1: 2.0}})
  with pytest.raises(UserError, match="leave out runs that diverged"):
    summarize([1.0, math.nan])


def test_rows_are_tested_one_by_one():
  rows = np.random.default_rng(0).normal(size=(3, 2, 7))
  np.testing.assert_allclose(
    paired_t(rows), stats.ttest_1samp(rows, 0, axis=-1).pvalue, rtol=1e-12
  )
