"""Schedules: three points each, worked by hand, and the edges of warm-up."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest

from ablax.configs import base
from ablax.errors import UserError
from ablax.train.config import resolve
from ablax.train.schedules import SCHEDULES, make_schedule

PROVES = (
  "schedule:constant",
  "schedule:cosine",
  "schedule:inverse_sqrt",
  "schedule:linear",
  "schedule:one_cycle",
  "schedule:restarts",
  "schedule:wsd",
)

LR = 0.5
# fp32 arithmetic, a handful of roundings.
ROUNDING = 1e-6


def schedule(name, steps, warmup, **options):
  config = resolve(
    base.get_config(),
    {
      "steps": steps,
      "opt.lr": LR,
      "opt.schedule": name,
      "opt.warmup_steps": warmup,
    }
    | {f"opt.opts.{name}.{k}": v for k, v in options.items()},
  )
  return jax.jit(make_schedule(config.opt, steps))


def check(learning_rate, points):
  for count, factor in points:
    got = float(learning_rate(jnp.int32(count)))
    assert got == pytest.approx(LR * factor, rel=ROUNDING, abs=1e-9), count


# Warm-up of 10, then 90 updates: 55 is halfway, 32.5 a quarter.
POINTS = {
  "constant": [(10, 1.0), (55, 1.0), (99, 1.0)],
  "cosine": [
    (10, 1.0),
    (55, 0.1 + 0.9 * 0.5),
    (40, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 3))),
  ],
  # After 4 times the warm-up it has halved, after 9 times a third.
  "inverse_sqrt": [(10, 1.0), (40, 0.5), (90, 1 / 3)],
  "linear": [(10, 1.0), (55, 0.5), (82, 0.2)],
  # Cycles of 90/7, 180/7 and 360/7 updates.
  "restarts": [
    (10, 1.0),
    (10 + 20, 0.5 * (1 + math.cos(math.pi * (20 * 7 - 90) / 180))),
    (10 + 45, 0.5 * (1 + math.cos(math.pi * (45 * 7 - 270) / 360))),
  ],
  # The last fifth, 18 updates, decays: from 82 on, half of it at 91.
  "wsd": [(82, 1.0), (91, 0.5), (97, 1 / 6)],
}
# It rises by itself: 100 updates without a warm-up.
OWN_RISE = {"one_cycle": [(0, 0.1), (45, 1.0), (95, (0.1 + 0.001) / 2)]}
SHORT = {"restarts": {"cycles": 1}}  # options for a single update
FALLING = [name for name in POINTS if name != "restarts"]


def test_every_schedule_has_its_points():
  assert POINTS.keys() | OWN_RISE.keys() == set(SCHEDULES.own)
  assert {f"schedule:{name}" for name in SCHEDULES.own} == set(PROVES)


@pytest.mark.parametrize("name", POINTS)
def test_three_points_of_each_schedule(name):
  check(schedule(name, 100, 10), POINTS[name])


@pytest.mark.parametrize("name", POINTS)
def test_warm_up_rises_linearly_and_the_first_update_moves(name):
  check(schedule(name, 100, 10), [(0, 0.1), (4, 0.5), (9, 1.0)])


@pytest.mark.parametrize(
  ("name", "options", "at_50", "end"),
  [
    ("cosine", {"final_factor": 0.0}, 0.5, 0.0),
    ("cosine", {"final_factor": 0.4}, 0.7, 0.4),
    ("linear", {"final_factor": 0.5}, 0.75, 0.5),
    ("wsd", {"decay_fraction": 1.0}, 0.5, 0.0),
    ("wsd", {"decay_fraction": 1.0, "final_factor": 0.5}, 0.75, 0.5),
    ("wsd", {"decay_fraction": 0.0}, 1.0, 0.0),
    ("one_cycle", {"cycle_fraction": 1.0}, 1.0, 0.1),
    ("one_cycle", {"cycle_fraction": 0.5, "final_factor": 0.05}, 0.1, 0.05),
    ("restarts", {"cycles": 1}, 0.5, 0.0),
    ("restarts", {"multiplier": 1.0, "final_factor": 0.2}, 0.6, 0.2),
  ],
)
def test_options_say_where_it_ends(name, options, at_50, end):
  # Past the end it stays: a run that goes on by mistake does not rise again.
  points = [(50, at_50), (100, end), (1000, end)]
  check(schedule(name, 100, 0, **options), points)


@pytest.mark.parametrize("name", OWN_RISE)
def test_three_points_of_a_schedule_with_a_rise_of_its_own(name):
  check(schedule(name, 100, 0), OWN_RISE[name])
  with pytest.raises(UserError) as caught:
    schedule(name, 100, 10)
  assert str(caught.value) == (
    f"opt.warmup_steps=10 with opt.schedule={name!r}, which begins with a rise"
    " of its own; set opt.warmup_steps=0"
  )


@pytest.mark.parametrize("name", FALLING)
def test_a_schedule_never_rises_after_its_warm_up(name):
  learning_rate = schedule(name, 30, 7)
  values = [float(learning_rate(jnp.int32(i))) for i in range(7, 30)]
  assert all(a >= b for a, b in itertools.pairwise(values))
  assert min(values) > 0


@pytest.mark.parametrize("name", POINTS)
def test_all_updates_may_be_warm_up(name):
  learning_rate = schedule(name, 8, 8, **SHORT.get(name, {}))
  check(learning_rate, [(0, 1 / 8), (3, 4 / 8), (7, 1.0)])


@pytest.mark.parametrize(
  ("name", "warmup"),
  [(n, w) for n in POINTS for w in (0, 1) if w or n != "inverse_sqrt"],
)
def test_a_single_update_has_the_peak(name, warmup):
  check(schedule(name, 1, warmup, **SHORT.get(name, {})), [(0, 1.0)])


def test_inverse_sqrt_is_the_formula_of_its_paper():
  """d^-0.5 min(s^-0.5, s w^-1.5), as a factor of its peak at s = w."""
  w, learning_rate = 10, schedule("inverse_sqrt", 100, 10)
  for count in range(100):
    # The paper counts from 1. Past the warm-up, s - 1: every schedule here
    # has its peak at the first update after it, too.
    s = count + 1 if count < w else count
    want = min(s**-0.5, s * w**-1.5) / w**-0.5
    check(learning_rate, [(count, want)])


def test_restarts_begin_again_at_the_peak_and_each_cycle_is_twice_as_long():
  learning_rate = schedule("restarts", 70, 0)
  values = [float(learning_rate(jnp.int32(i))) for i in range(70)]
  rises = [i for i in range(1, 70) if values[i] > values[i - 1]]
  assert rises == [10, 30]
  assert [values[i] for i in (0, *rises)] == [LR] * 3


def test_more_restarts_than_updates_are_refused():
  schedule("restarts", 30, 10, cycles=20)
  with pytest.raises(UserError) as caught:
    schedule("restarts", 30, 10, cycles=21)
  assert str(caught.value) == (
    "opt.opts.restarts.cycles=21 is more than the 20 updates after the"
    " warm-up; lower it"
  )


@pytest.mark.parametrize(
  ("cycles", "multiplier"), [(2000, 2.0), (2000, 0.5), (30, 1e30), (300, 10.0)]
)
def test_restarts_are_numbers_however_uneven(cycles, multiplier):
  learning_rate = schedule(
    "restarts", 2000, 0, cycles=cycles, multiplier=multiplier
  )
  for count in (0, 1, 1000, 1998, 1999, 2000):
    assert 0 <= float(learning_rate(jnp.int32(count))) <= LR


def test_inverse_sqrt_without_a_warm_up_is_refused():
  with pytest.raises(UserError) as caught:
    schedule("inverse_sqrt", 100, 0)
  assert str(caught.value) == (
    "opt.warmup_steps=0 with opt.schedule='inverse_sqrt', which falls to"
    " sqrt(warmup / (warmup + step)) of the peak; set opt.warmup_steps, as in"
    " 4000"
  )


@pytest.mark.parametrize(
  ("name", "option", "value"),
  [
    ("restarts", "cycles", 0),
    ("restarts", "multiplier", math.inf),
    ("linear", "final_factor", math.inf),
    ("restarts", "multiplier", 0.0),
    ("one_cycle", "cycle_fraction", 0.0),
    ("wsd", "decay_fraction", 1.5),
    ("cosine", "final_factor", -0.1),
  ],
)
def test_a_bad_option_is_refused(name, option, value):
  with pytest.raises(UserError, match=f"opt.opts.{name}.{option}={value}"):
    schedule(name, 100, 0, **{option: value})
